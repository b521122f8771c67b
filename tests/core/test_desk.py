"""The life of a request, whatever becomes of its reader and its worker, as events and effects."""

import pytest
from ingle.wire.schema import Accepted, Done, Failed, Result
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Caller, Rights
from ingled.core.control import Control
from ingled.core.requests import Record, Stage
from msgspec import Raw

from tests.core.driven import ALICE, BOB, ROOT, control, ended, ends, make_ready, only, refusals, request


def test_a_finished_request_ends_once_and_is_forgotten_when_delivered() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    effects = core.handle(ended())
    (close,) = only(effects, do.CloseStream)
    assert isinstance(close.end, Done)
    assert close.end.usage.cached == 4
    assert (close.end.ms.load, close.end.ms.first, close.end.ms.total) == (1000.0, 12.5, 2000.0)
    assert ends(core.handle(ended())) == []
    assert core.handle(on.Delivered(4.0, "r1")) != []
    assert core.requests.records == {}
    assert core.requests.done_total == 1


@pytest.mark.parametrize("finish", ["abort", "error", "something new"])
def test_an_engine_that_ends_a_request_strangely_fails_it(finish: str) -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    assert ends(core.handle(ended(finish=finish))) == [("r1", "engine_error")]


def test_cancel_reaches_the_engine_and_ends_the_request() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    effects = core.handle(on.CancelAsked(3.0, Caller(8, "uid:1000"), 5, "r1"))
    assert only(effects, do.AbortRequest) == [do.AbortRequest("50", "r1")]
    assert ends(effects) == [("r1", "cancelled")]
    assert Result(5, {"cancelled": True, "state": "running"}) in [e.message for e in only(effects, do.Send)]
    assert ends(core.handle(ended(finish="abort"))) == []


def test_another_account_can_neither_cancel_nor_attach_nor_learn_that_there_is_something() -> None:
    core = control()
    core.handle(request())
    for event in (on.CancelAsked(3.0, BOB, 5, "r1"), on.AttachAsked(3.0, BOB, 5, "r1", 0, 4)):
        assert refusals(core.handle(event)) == ["no_such_request"]
    assert ends(core.handle(on.CancelAsked(3.0, ROOT, 5, "r1"))) == [("r1", "cancelled")]


def test_a_vanished_client_ends_what_it_ran() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    effects = core.handle(on.ConnectionGone(3.0, 1, left=False))
    assert only(effects, do.AbortRequest) == [do.AbortRequest("50", "r1")]
    assert core.requests.records == {}


def test_of_very_much_that_a_vanished_client_ran_a_part_is_ended_at_a_time() -> None:
    core = control()
    for number in range(100):
        core.handle(request(f"r{number}"))
    core.handle(request("other", BOB))
    make_ready(core)
    now, aborted = 3.0, []
    left: list[on.ConnectionGone] = [on.ConnectionGone(now, 1, left=False)]
    while left:
        effects = core.handle(left.pop())
        left = [again.event for again in only(effects, do.Continue)]
        aborted.append([abort.id for abort in only(effects, do.AbortRequest)])
    assert len(aborted) > 3 and max(map(len, aborted)) < 50
    assert sorted(id for some in aborted for id in some) == sorted(f"r{number}" for number in range(100))
    assert set(core.requests.records) == {"other"}


def test_a_request_with_grace_waits_for_its_client_to_come_back() -> None:
    core = control()
    core.handle(request(grace_ms=5000))
    make_ready(core)
    effects = core.handle(on.ConnectionGone(3.0, 1, left=False))
    assert only(effects, do.AbortRequest) == []
    assert only(effects, do.SetTimer) == [do.SetTimer(("grace", "r1"), 8.0)]
    effects = core.handle(on.AttachAsked(4.0, Caller(9, "uid:1000"), 1, "r1", 0, 4))
    assert only(effects, do.AttachStream) == [do.AttachStream("r1", 9, 1, 0, 4)]
    assert only(effects, do.ClearTimer) == [do.ClearTimer(("grace", "r1"))]


def test_grace_that_runs_out_or_a_client_that_says_bye_ends_the_request() -> None:
    core = control()
    core.handle(request(grace_ms=5000))
    core.handle(on.ConnectionGone(3.0, 1, left=False))
    core.handle(on.TimerFired(8.0, ("grace", "r1")))
    assert core.requests.records == {}
    core.handle(request("r2", grace_ms=5000))
    core.handle(on.ConnectionGone(3.0, 1, left=True))
    assert core.requests.records == {}


def test_a_detached_request_goes_on_and_is_kept_for_a_while() -> None:
    core = control(keep_s=60.0)
    core.handle(request(detach=True))
    make_ready(core)
    assert only(core.handle(on.ConnectionGone(3.0, 1, left=True)), do.DetachStream) == [do.DetachStream("r1")]
    assert only(core.handle(ended(now=4.0)), do.SetTimer) == [do.SetTimer(("keep", "r1"), 64.0)]
    effects = core.handle(on.AttachAsked(5.0, Caller(9, "uid:1000"), 1, "r1", 0, 4))
    assert only(effects, do.AttachStream) != []
    core.handle(on.Delivered(6.0, "r1"))
    assert only(core.handle(on.TimerFired(64.0, ("keep", "r1"))), do.CutStream) == [do.CutStream("r1")]
    assert core.requests.records == {}


def test_a_detached_request_whose_client_leaves_before_taking_the_end_is_kept_too() -> None:
    core = control()
    core.handle(request(detach=True))
    make_ready(core)
    core.handle(ended())
    effects = core.handle(on.ConnectionGone(4.0, 1, left=False))
    assert only(effects, do.SetTimer) == [do.SetTimer(("keep", "r1"), 604.0)]


def test_kept_answers_have_a_bound_and_the_oldest_go_first() -> None:
    core = control(held=60_000, keep_bytes=130_000)
    for id in ("r1", "r2", "r3"):
        core.handle(request(id, detach=True))
    make_ready(core)
    core.handle(on.ConnectionGone(2.5, 1, left=True))
    assert only(core.handle(ended("r1")), do.CutStream) == []
    assert only(core.handle(ended("r2")), do.CutStream) == []
    core.handle(on.AttachAsked(4.0, ALICE, 1, "r1", 0, 4))
    assert only(core.handle(ended("r3")), do.CutStream) == [do.CutStream("r2")], "not what somebody reads"


def test_a_kept_answer_is_not_dropped_under_its_reader_and_its_cancel_ends_it() -> None:
    core = control(keep_s=60.0)
    core.handle(request(detach=True))
    make_ready(core)
    core.handle(on.ConnectionGone(2.5, 1, left=True))
    core.handle(ended())
    core.handle(on.AttachAsked(4.0, ALICE, 1, "r1", 0, 4))
    assert core.handle(on.TimerFired(63.0, ("keep", "r1"))) == [do.SetTimer(("keep", "r1"), 123.0)]
    effects = core.handle(on.CancelAsked(64.0, ALICE, 2, "r1"))
    assert ends(effects) == [("r1", "cancelled")]
    assert Result(2, {"cancelled": False, "state": "kept"}) in [e.message for e in only(effects, do.Send)]


def test_who_takes_over_a_stream_is_told_to_the_one_that_had_it() -> None:
    core = control()
    core.handle(request())
    effects = core.handle(on.AttachAsked(3.0, Caller(9, "uid:1000"), 1, "r1", 0, 4))
    (send,) = only(effects, do.Send)
    assert send.conn == 1
    assert isinstance(send.message, Failed)
    assert send.message.code == "conflict"


def test_a_deadline_ends_a_request_that_waits_and_one_that_runs() -> None:
    core = control()
    assert do.SetTimer(("deadline", "r1"), 1.5) in core.handle(request(deadline_ms=500))
    assert ends(core.handle(on.TimerFired(1.5, ("deadline", "r1")))) == [("r1", "deadline")]
    core.handle(request("r2", deadline_ms=500))
    make_ready(core)
    effects = core.handle(on.TimerFired(2.5, ("deadline", "r2")))
    assert only(effects, do.AbortRequest) == [do.AbortRequest("50", "r2")]
    assert ends(effects) == [("r2", "deadline")]


def test_a_request_that_kills_its_workers_is_ended() -> None:
    core = control()
    core.handle(request())
    for pid in (50, 51, 52, 53):
        make_ready(core, pid=pid)
        effects = core.handle(on.WorkerGone(3.0, "ember", pid, "killed by SIGSEGV"))
        core.handle(on.TimerFired(3.0, ("restart", "ember")))
    assert ends(effects) == [("r1", "worker_died")]


def test_a_request_of_an_earlier_broker_goes_on_where_its_client_is() -> None:
    core = control()
    core.handle(on.WorkerAttached(1.0, "ember", "50", 50))
    record = Record("r9", "uid:1000", None, "ember", "chat", Raw(b""), True, False, 0, 0, 0.5, worker="50")
    record.stage = Stage.RUNNING
    effects = core.handle(on.RequestAdopted(1.0, record, 40, [1, 2]))
    assert only(effects, do.AdoptStream) == [do.AdoptStream(record, 40, [1, 2])]
    assert only(effects, do.SetTimer) == [do.SetTimer(("grace", "r9"), 31.0)]
    assert core.handle(on.RequestAdopted(1.0, record, 40, [1, 2])) == []
    core.handle(on.WorkerReady(1.1, "ember", 50))
    effects = core.handle(on.AttachAsked(2.0, ALICE, 3, "r9", 50, 8))
    assert only(effects, do.AttachStream) == [do.AttachStream("r9", 1, 3, 50, 8)]
    assert ends(core.handle(ended("r9"))) == [("r9", "done")]
    effects = core.handle(on.Delivered(4.0, "r9"))
    assert only(effects, do.ReleaseRequest) == [do.ReleaseRequest("50", "r9")]


def adopted(core: Control, grace_ms: int = 0) -> list[do.Effect]:
    """Take over a request that runs and that nobody reads."""
    core.handle(on.WorkerAttached(1.0, "ember", "50", 50))
    core.handle(on.WorkerReady(1.0, "ember", 50))
    record = Record("r9", "uid:1000", None, "ember", "chat", Raw(b""), True, False, grace_ms, 0, 0.5, worker="50")
    record.stage = Stage.RUNNING
    return core.handle(on.RequestAdopted(1.0, record, 40, [1, 2]))


def graces(effects: list[do.Effect]) -> list[do.SetTimer]:
    return [timer for timer in only(effects, do.SetTimer) if timer.key[0] == "grace"]


def test_a_daemon_that_stops_waits_a_moment_for_the_reader_of_an_answer_that_may_have_been_delivered() -> None:
    """Its client got `done` in the moment in which the daemon before this one was killed, and never comes."""
    core = control()
    assert graces(adopted(core)) == [do.SetTimer(("grace", "r9"), 31.0)]
    core.handle(ended("r9", 2.0))
    effects = core.handle(on.DrainAsked(3.0))
    assert graces(effects) == [do.SetTimer(("grace", "r9"), 6.0)]
    assert only(effects, do.Drained) == []
    assert only(core.handle(on.TimerFired(6.0, ("grace", "r9"))), do.Drained) == [do.Drained()]


def test_what_still_runs_when_the_daemon_stops_has_its_whole_grace_until_it_ends() -> None:
    core = control()
    adopted(core)
    assert graces(core.handle(on.DrainAsked(3.0))) == []
    effects = core.handle(ended("r9", 4.0))
    assert graces(effects) == [do.SetTimer(("grace", "r9"), 7.0)]
    assert only(core.handle(on.AttachAsked(5.0, ALICE, 3, "r9", 40, 8)), do.AttachStream)
    assert only(core.handle(on.Delivered(5.1, "r9")), do.Drained) == [do.Drained()]


def test_a_reader_that_is_lost_while_the_daemon_stops_has_no_more_than_it_asked_for_nor_long() -> None:
    for grace_ms, at in ((500, 4.5), (60_000, 7.0)):
        core = control()
        core.handle(request(grace_ms=grace_ms))
        make_ready(core)
        core.handle(on.DrainAsked(3.0))
        core.handle(ended(now=3.5))
        assert graces(core.handle(on.ConnectionGone(4.0, 1, left=False))) == [do.SetTimer(("grace", "r1"), at)]


def test_a_deadline_that_passed_before_the_adoption_waits_for_the_text_from_before_it() -> None:
    core = control()
    core.handle(on.WorkerAttached(9.0, "ember", "50", 50))
    record = Record("r9", "uid:1000", None, "ember", "chat", Raw(b""), True, False, 0, 0, 0.5, worker="50")
    record.stage = Stage.RUNNING
    record.deadline_at = 2.0
    effects = core.handle(on.RequestAdopted(9.0, record, 0, []))
    assert do.SetTimer(("deadline", "r9"), 10.0) in only(effects, do.SetTimer)


def test_what_is_accepted_is_with_its_worker_before_its_client_knows() -> None:
    core = control()
    core.handle(on.WorkerAttached(1.0, "ember", "50", 50))
    core.handle(on.WorkerReady(1.1, "ember", 50))
    kinds = [type(effect) for effect in core.handle(request())]
    assert kinds.index(do.RunRequest) < kinds.index(do.Send)


def test_what_did_not_reach_a_worker_is_given_to_it_again() -> None:
    core = control()
    core.handle(request())
    core.handle(request("r2"))
    make_ready(core)
    effects = core.handle(on.RequestsMissed(3.0, "ember", 50, frozenset({"r1"})))
    assert [run.record.id for run in only(effects, do.RunRequest)] == ["r2"]


def left_behind(stage: Stage = Stage.QUEUED) -> Record:
    """A request that no worker held when an earlier daemon ended."""
    return Record("r9", "uid:1000", None, "ember", "chat", Raw(b""), True, False, 0, 0, 0.5, stage=stage)


def test_what_no_worker_holds_is_kept_before_its_client_knows_and_while_it_waits() -> None:
    core = control()
    effects = core.handle(request())
    kept = only(effects, do.KeepWaiting)
    assert [keep.record.id for keep in kept] == ["r1"]
    accepted = next(e for e in only(effects, do.Send) if isinstance(e.message, Accepted))
    assert effects.index(kept[0]) < effects.index(accepted)
    make_ready(core)
    assert only(core.handle(request("r2", BOB)), do.KeepWaiting) == [], "a worker has it"
    effects = core.handle(on.WorkerGone(3.0, "ember", 50, "exit status 1"))
    assert [keep.record.id for keep in only(effects, do.KeepWaiting)] == ["r1", "r2"]


def test_a_request_that_waited_under_an_earlier_daemon_has_its_model_loaded() -> None:
    core = control()
    effects = core.handle(on.RequestAdopted(1.0, left_behind(), 0, []))
    assert only(effects, do.StartWorker) == [do.StartWorker("ember")]
    assert [keep.record.id for keep in only(effects, do.KeepWaiting)] == ["r9"]
    assert only(core.handle(on.AttachAsked(1.5, ALICE, 3, "r9", 0, 8)), do.AttachStream)
    assert [run.record.id for run in only(make_ready(core), do.RunRequest)] == ["r9"]


def test_a_request_that_waited_goes_on_behind_its_text_with_a_model_that_is_ready() -> None:
    core = control()
    core.handle(on.LoadAsked(0.0, ALICE, 1, "ember", wait=False))
    make_ready(core)
    text = [(4, 2, b"..")]
    effects = core.handle(on.RequestAdopted(3.0, left_behind(), 4, [1, 2], text))
    assert only(effects, do.ReplayText) == [do.ReplayText("r9", text)]
    kinds = [type(effect) for effect in effects if isinstance(effect, do.AdoptStream | do.ReplayText | do.HoldRequest)]
    assert kinds == [do.AdoptStream, do.ReplayText, do.HoldRequest], "the worker is told of text that is there"
    assert only(effects, do.BeginRequest) == [do.BeginRequest("50", "r9", 0)]


def test_a_request_for_a_model_that_is_there_no_more_is_not_taken_over() -> None:
    record = left_behind()
    record.model = "ash"
    assert control().handle(on.RequestAdopted(1.0, record, 0, [])) == []


def test_a_request_that_was_with_its_hooks_is_admitted_anew() -> None:
    core = control()
    record = left_behind(Stage.FILTERING)
    record.model = "ash"
    assert ends(core.handle(on.RequestAdopted(1.0, record, 0, []))) == [("r9", "no_such_model")]
    record = left_behind(Stage.FILTERING)
    record.model, record.rights = "coal", Rights(models=("ember",))
    other = control()
    assert ends(other.handle(on.RequestAdopted(1.0, record, 0, []))) == [("r9", "not_allowed")]
