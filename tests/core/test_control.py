"""The core as lists of events and the effects that they cause."""

from typing import Any, TypeVar

import pytest
from ingle.wire.schema import Accepted, Done, Failed, Progress, Result
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import ADMIN, Caller, Rights
from ingled.core.control import Control
from ingled.core.desk import Limits
from ingled.core.requests import Record, Stage
from ingled.core.residency import IllegalTransition, Model, State
from msgspec import UNSET, Raw

ALICE = Caller(1, "uid:1000")
BOB = Caller(2, "uid:1001")
ROOT = Caller(3, "uid:0", ADMIN)
T = TypeVar("T")


def control(held: int = 0, **limits: Any) -> Control:
    return Control([Model("ember", ("e",)), Model("coal")], "ember", Limits(**limits), lambda id: held)


def request(id: str = "r1", caller: Caller = ALICE, now: float = 1.0, **changes: Any) -> on.RequestArrived:
    fields: dict[str, Any] = {
        "model": None,
        "body": Raw(b""),
        "stream": True,
        "credit": 4,
        "deadline_ms": None,
        "detach": False,
        "grace_ms": 0,
        "priority": 0,
    }
    return on.RequestArrived(now=now, caller=caller, ref=9, id=id, op="chat", **(fields | changes))


def only(effects: list[do.Effect], kind: type[T]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def ends(effects: list[do.Effect]) -> list[tuple[str, str]]:
    """Ids and codes (or `done`) of the requests that these effects end."""
    found = []
    for effect in effects:
        end = effect.end if isinstance(effect, do.CloseStream | do.CutStream) else None
        if end is not None:
            found.append((str(end.id), end.code if isinstance(end, Failed) else "done"))
    return found


def refusals(effects: list[do.Effect]) -> list[str]:
    return [e.message.code for e in only(effects, do.Send) if isinstance(e.message, Failed)]


def make_ready(core: Control, name: str = "ember", now: float = 2.0, pid: int = 50) -> list[do.Effect]:
    return [
        *core.handle(on.WorkerForked(now, name, pid)),
        *core.handle(on.WorkerAttached(now, name, str(pid), pid)),
        *core.handle(on.WorkerReady(now, name, pid)),
    ]


def ended(id: str = "r1", now: float = 3.0, finish: str = "stop") -> on.RunEnded:
    return on.RunEnded(now, id, finish, 10, 4, 5, 12.5, None, None)


def test_a_request_for_a_cold_model_loads_it_and_waits() -> None:
    core = control()
    effects = core.handle(request())
    assert only(effects, do.StartWorker) == [do.StartWorker("ember")]
    assert [type(e.message) for e in only(effects, do.Send)] == [Accepted, Progress]
    assert only(effects, do.RunRequest) == []
    assert core.models["ember"].state is State.LOADING
    assert only(core.handle(request("r2")), do.StartWorker) == []
    assert [run.record.id for run in only(make_ready(core), do.RunRequest)] == ["r1", "r2"]


def test_a_request_for_a_ready_model_runs_at_once() -> None:
    core = control()
    core.handle(on.LoadAsked(0.0, ALICE, 1, "ember", wait=False))
    make_ready(core)
    (run,) = only(core.handle(request()), do.RunRequest)
    assert (run.worker, run.record.id, run.record.account) == ("50", "r1", "uid:1000")


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


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    effects = control().handle(request(model="embr"))
    (send,) = only(effects, do.Send)
    assert isinstance(send.message, Failed)
    assert (send.message.code, send.message.ref, send.message.at) == ("no_such_model", 9, "model")
    assert "did you mean 'ember'?" in send.message.hint


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


def test_a_load_that_fails_tells_everybody_who_waits_and_is_not_tried_at_once_again() -> None:
    core = control()
    core.handle(request())
    core.handle(on.LoadAsked(1.0, BOB, 7, "ember", wait=True))
    core.handle(on.WorkerForked(2.0, "ember", 50))
    effects = core.handle(on.LoadFailed(3.0, "ember", 50, "no weights", ("last line",)))
    assert ends(effects) == [("r1", "load_failed")]
    assert refusals(effects) == ["load_failed"]
    assert core.models["ember"].log == ("last line",)
    assert core.handle(on.WorkerGone(3.1, "ember", 50, "exit status 1")) == []
    assert refusals(core.handle(request("r2", now=3.5))) == ["load_failed"]
    assert only(core.handle(request("r3", now=4.1)), do.StartWorker) == [do.StartWorker("ember")]


def test_pauses_between_loads_that_fail_grow() -> None:
    core = control()
    pauses = []
    now = 0.0
    for attempt in range(8):
        now += 100.0
        core.handle(on.LoadAsked(now, ALICE, 1, "ember", wait=False))
        core.handle(on.WorkerForked(now, "ember", attempt))
        core.handle(on.LoadFailed(now, "ember", attempt, "no weights"))
        pauses.append(core.models["ember"].retry_at - now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_worker_that_dies_is_replaced_and_its_requests_go_on() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    effects = core.handle(on.WorkerGone(3.0, "ember", 50, "killed by SIGKILL", ("log",)))
    assert ends(effects) == []
    assert only(effects, do.SetTimer) == [do.SetTimer(("restart", "ember"), 3.0)]
    assert only(core.handle(request("r2", now=3.0)), do.StartWorker) == []
    assert only(core.handle(on.TimerFired(3.0, ("restart", "ember"))), do.StartWorker) == [do.StartWorker("ember")]
    runs = only(make_ready(core, pid=51, now=4.0), do.RunRequest)
    assert [(run.worker, run.record.id, run.record.resumed) for run in runs] == [("51", "r1", 1), ("51", "r2", 0)]
    (close,) = only(core.handle(ended(now=5.0)), do.CloseStream)
    assert isinstance(close.end, Done)
    assert close.end.resumed == 1


def test_pauses_before_a_new_worker_grow_until_the_model_is_given_up() -> None:
    core = control()
    core.handle(request())
    pauses = []
    now = 1.0
    for pid in range(50, 56):
        make_ready(core, pid=pid, now=now)
        effects = core.handle(on.WorkerGone(now, "ember", pid, "killed by SIGSEGV", (f"log {pid}",)))
        pauses += [timer.at - now for timer in only(effects, do.SetTimer)]
        now += 10.0
        core.handle(on.TimerFired(now, ("restart", "ember")))
    assert pauses == [0, 1, 2, 4, 8]
    model = core.models["ember"]
    assert model.state is State.FAILED
    assert model.why == "its worker died 6 times in a row; the worker ended: killed by SIGSEGV"
    assert model.log == ("log 55",)
    core.handle(on.LoadAsked(now, ALICE, 1, "ember", wait=False))
    assert (model.state, model.crashes) == (State.LOADING, 0)


def test_a_worker_that_was_good_for_a_while_ends_the_row_of_deaths() -> None:
    core = control()
    core.handle(request())
    for pid, now in ((50, 1.0), (51, 2.0), (52, 3.0)):
        make_ready(core, pid=pid, now=now)
        later = now + (100.0 if pid == 52 else 0.5)
        core.handle(on.WorkerGone(later, "ember", pid, "exit status 1"))
        core.handle(on.TimerFired(later, ("restart", "ember")))
    assert core.models["ember"].crashes == 1


def test_a_request_that_kills_its_workers_is_ended() -> None:
    core = control()
    core.handle(request())
    for pid in (50, 51, 52, 53):
        make_ready(core, pid=pid)
        effects = core.handle(on.WorkerGone(3.0, "ember", pid, "killed by SIGSEGV"))
        core.handle(on.TimerFired(3.0, ("restart", "ember")))
    assert ends(effects) == [("r1", "worker_died")]


def test_a_worker_that_dies_while_it_loads_is_tried_again_and_who_waits_goes_on_waiting() -> None:
    core = control()
    core.handle(request())
    core.handle(on.LoadAsked(1.0, BOB, 7, "ember", wait=True))
    core.handle(on.WorkerForked(2.0, "ember", 50))
    effects = core.handle(on.WorkerGone(3.0, "ember", 50, "killed by SIGKILL"))
    assert ends(effects) == []
    assert refusals(effects) == []
    core.handle(on.TimerFired(3.0, ("restart", "ember")))
    effects = make_ready(core, pid=51, now=4.0)
    assert [run.record.id for run in only(effects, do.RunRequest)] == ["r1"]
    assert Result(7, {"model": "ember", "state": "ready"}) in [e.message for e in only(effects, do.Send)]


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


def test_when_draining_takes_too_long_what_runs_is_ended() -> None:
    core = control()
    core.handle(request())
    core.handle(request("r2", detach=True))
    make_ready(core)
    core.handle(on.DrainAsked(3.0))
    assert ends(core.handle(on.DrainExpired(4.0))) == [("r1", "draining"), ("r2", "draining")]


def test_news_of_an_earlier_worker_change_nothing() -> None:
    core = control()
    core.handle(request())
    make_ready(core, pid=51)
    for event in (
        on.WorkerGone(3.0, "ember", 50, "old"),
        on.LoadFailed(3.0, "ember", 50, "old"),
        on.WorkerReady(3.0, "ember", 50),
        on.WorkerLoading(3.0, "ember", 50, "weights", 10),
    ):
        assert core.handle(event) == []
    assert only(core.handle(on.WorkerForked(3.0, "ember", 52)), do.StopWorker) == [do.StopWorker("ember", None, 52)]


def test_an_earlier_worker_that_fails_again_does_not_fail_the_next_one_before_it_is_forked() -> None:
    core = control()
    core.handle(request())
    core.handle(on.WorkerForked(2.0, "ember", 50))
    core.handle(on.LoadFailed(3.0, "ember", 50, "no weights"))
    core.handle(on.LoadAsked(9.0, ALICE, 1, "ember", wait=False))
    assert core.handle(on.LoadFailed(9.1, "ember", 50, "no weights")) == []
    assert core.models["ember"].state is State.LOADING


def test_a_worker_that_is_ready_before_the_nursery_tells_of_it_stays() -> None:
    core = control()
    core.handle(on.LoadAsked(1.0, ALICE, 1, "ember", wait=False))
    core.handle(on.WorkerAttached(1.1, "ember", "50", 50))
    core.handle(on.WorkerReady(1.2, "ember", 50))
    assert core.handle(on.WorkerForked(1.3, "ember", 50)) == []


def test_a_worker_that_was_told_to_go_is_not_adopted_though_its_model_has_none() -> None:
    core = control()
    core.handle(on.LoadAsked(1.0, ALICE, 1, "ember", wait=False))
    core.handle(on.UnloadAsked(1.1, ALICE, 2, "ember", force=False))
    core.handle(on.NurseryAttached(1.2))  # the same one, which had lost its link: it forks what it was told before
    assert core.models["ember"].state is State.COLD
    for event in (on.WorkerForked(1.3, "ember", 50), on.WorkerAttached(1.4, "ember", "50", 50)):
        assert [one.pid for one in only(core.handle(event), do.StopWorker)] == [50]
    assert core.models["ember"].state is State.COLD
    core.handle(on.WorkerGone(1.5, "ember", 50, "exit status 0"))
    core.handle(on.WorkerAttached(9.0, "ember", "50", 50))  # another process of this number, long after
    assert core.models["ember"].state is State.LOADING


def test_a_living_worker_of_an_earlier_broker_is_adopted() -> None:
    core = control()
    core.handle(on.WorkerAttached(1.0, "ember", "50", 50))
    core.handle(on.WorkerReady(1.1, "ember", 50))
    assert only(core.handle(request()), do.RunRequest) != []


def test_loading_is_told_to_those_who_wait_with_their_position() -> None:
    core = control()
    core.handle(request())
    core.handle(request("r2", BOB))
    core.handle(on.WorkerForked(2.0, "ember", 50))
    effects = core.handle(on.WorkerLoading(2.5, "ember", 50, "weights", 40))
    told = [(e.conn, e.message.position, e.message.percent) for e in only(effects, do.Send)]  # type: ignore[union-attr]
    assert told == [(1, 0, 40), (2, 1, 40)]


def test_unload_waits_for_nobody_unless_forced() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    assert refusals(core.handle(on.UnloadAsked(3.0, ALICE, 4, "e", force=False))) == ["conflict"]
    effects = core.handle(on.UnloadAsked(3.0, ALICE, 4, "e", force=True))
    assert ends(effects) == [("r1", "cancelled")]
    assert only(effects, do.StopWorker) == [do.StopWorker("ember", "50", 50)]
    core.handle(request("r2", now=3.5))
    effects = core.handle(on.WorkerGone(4.0, "ember", 50, "exit status 0"))
    assert only(effects, do.StartWorker) == [do.StartWorker("ember")]


def test_load_answers_when_the_model_is_ready() -> None:
    core = control()
    assert only(core.handle(on.LoadAsked(1.0, ALICE, 7, "coal", wait=True)), do.Send) == []
    effects = make_ready(core, "coal")
    assert [e.message for e in only(effects, do.Send)] == [Result(7, {"model": "coal", "state": "ready"})]
    effects = core.handle(on.LoadAsked(3.0, ALICE, 8, "coal", wait=True))
    assert [e.message for e in only(effects, do.Send)] == [Result(8, {"model": "coal", "state": "ready"})]
    assert refusals(core.handle(on.LoadAsked(3.0, ALICE, 8, "ash", wait=True))) == ["no_such_model"]


def test_queues_and_accounts_have_bounds() -> None:
    core = control(queue=2, open_requests=3)
    assert refusals([*core.handle(request("r1")), *core.handle(request("r2"))]) == []
    assert refusals(core.handle(request("r3"))) == ["queue_full"]
    core.handle(request("r4", model="coal"))
    assert refusals(core.handle(request("r5", model="coal"))) == ["over_limit"]


def test_draining_refuses_new_requests_and_says_when_the_last_has_ended() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    assert only(core.handle(on.DrainAsked(3.0)), do.Drained) == []
    assert refusals(core.handle(request("r2"))) == ["draining"]
    core.handle(ended())
    assert only(core.handle(on.Delivered(4.0, "r1")), do.Drained) == [do.Drained()]
    assert only(control().handle(on.DrainAsked(1.0)), do.Drained) == [do.Drained()]


def test_a_nursery_that_comes_back_is_told_what_to_fork() -> None:
    core = control()
    core.handle(request())
    assert core.handle(on.NurseryAttached(2.0)) == [do.StartWorker("ember")]
    effects = core.handle(on.NurseryFailed(3.0, "no vllm", ("log",)))
    assert ends(effects) == [("r1", "load_failed")]


def test_an_illegal_transition_names_model_state_and_cause_and_tells_the_story() -> None:
    from ingled.core.residency import Cause

    model = Model("ember")
    model.move(1.0, Cause.WANTED)
    with pytest.raises(IllegalTransition, match=r"'ember' is loading: 'wanted'.*2\.0 s ago: cold -> loading"):
        model.move(3.0, Cause.WANTED)
    assert model.state is State.LOADING


def test_a_model_abandoned_after_a_bug_fails_its_requests_and_no_others() -> None:
    core = control()
    core.handle(request("r1"))
    core.handle(request("r2", model="coal"))
    make_ready(core)
    make_ready(core, "coal", pid=60)
    assert ends(core.abandon(3.0, "ember", "bug")) == [("r1", "internal")]
    assert core.models["coal"].state is State.READY


def test_a_worker_that_says_its_engine_died_gets_no_more_requests() -> None:
    core = control()
    core.handle(request())
    make_ready(core)
    effects = core.handle(on.EngineDied(3.0, "ember", 50, "EngineCore has died"))
    assert ends(effects) == []
    assert only(effects, do.StopWorker) == [do.StopWorker("ember", "50", 50)]
    assert only(core.handle(request("r2", now=3.1)), do.RunRequest) == []
    core.handle(on.WorkerGone(3.2, "ember", 50, "exit status 1"))
    assert core.models["ember"].why == "EngineCore has died"
    core.handle(on.TimerFired(3.2, ("restart", "ember")))
    runs = only(make_ready(core, pid=51, now=4.0), do.RunRequest)
    assert [run.record.id for run in runs] == ["r1", "r2"]


def test_progress_never_goes_back_from_the_engines_start_to_the_models_load() -> None:
    core = control()
    core.handle(request())
    core.handle(on.LoadAsked(1.0, BOB, 7, "ember", wait=True))
    seen = []
    for event in (
        on.NurseryLoading(1.1, 50),
        on.NurseryLoading(1.2, 100),
        on.WorkerForked(1.3, "ember", 50),
        on.WorkerLoading(1.4, "ember", 50, "configuring", 0),
        on.WorkerLoading(1.5, "ember", 50, "weights", 50),
    ):
        told = [e.message for e in only(core.handle(event), do.Send) if isinstance(e.message, Progress)]
        seen += [(m.percent, m.ref) for m in told if m.ref is not UNSET]
        assert len(told) in (0, 2)
    assert seen == [(30, 7), (60, 7), (60, 7), (80, 7)]


def test_a_load_right_after_an_unload_is_answered_when_the_model_is_ready_again() -> None:
    core = control()
    make_ready_by_load(core)
    core.handle(on.UnloadAsked(3.0, ALICE, 4, "ember", force=False))
    assert only(core.handle(on.LoadAsked(3.1, ALICE, 7, "ember", wait=True)), do.Send) == []
    effects = core.handle(on.WorkerGone(3.2, "ember", 50, "exit status 0"))
    assert only(effects, do.StartWorker) == [do.StartWorker("ember")]
    effects = make_ready(core, pid=51, now=4.0)
    assert [e.message for e in only(effects, do.Send)] == [Result(7, {"model": "ember", "state": "ready"})]


def make_ready_by_load(core: Control) -> None:
    core.handle(on.LoadAsked(1.0, ALICE, 1, "ember", wait=False))
    make_ready(core)


@pytest.mark.parametrize("first", ["forked", "attached"])
def test_a_model_unloaded_before_its_worker_is_born_stays_unloaded(first: str) -> None:
    core = control()
    core.handle(on.LoadAsked(1.0, ALICE, 1, "ember", wait=False))
    core.handle(on.UnloadAsked(1.1, ALICE, 2, "ember", force=False))
    news: list[on.Event] = [on.WorkerForked(1.2, "ember", 50), on.WorkerAttached(1.3, "ember", "50", 50)]
    for event in news if first == "forked" else reversed(news):
        assert only(core.handle(event), do.StopWorker) != []
    core.handle(on.WorkerReady(1.4, "ember", 50))
    core.handle(on.WorkerGone(1.5, "ember", 50, "exit status 0"))
    assert core.models["ember"].state is State.COLD
    assert core.models["ember"].crashes == 0


def test_a_nursery_that_died_before_it_forked_leaves_nothing_stopping() -> None:
    core = control()
    core.handle(on.LoadAsked(1.0, ALICE, 1, "ember", wait=False))
    core.handle(on.UnloadAsked(1.1, ALICE, 2, "ember", force=False))
    core.handle(on.NurseryAttached(2.0))
    assert core.models["ember"].state is State.COLD


def test_what_did_not_reach_a_worker_is_given_to_it_again() -> None:
    core = control()
    core.handle(request())
    core.handle(request("r2"))
    make_ready(core)
    effects = core.handle(on.RequestsMissed(3.0, "ember", 50, frozenset({"r1"})))
    assert [run.record.id for run in only(effects, do.RunRequest)] == ["r2"]


def test_settings_that_changed_hold_for_what_comes_next() -> None:
    core = control(queue=1)
    core.handle(request("r1"))
    assert refusals(core.handle(request("r2"))) == ["queue_full"]
    assert core.handle(on.SettingsChanged(2.0, Limits(queue=2, keep_s=7.0), {}, 5.0)) == []
    assert refusals(core.handle(request("r3"))) == []
    assert refusals(core.handle(request("r4"))) == ["queue_full"]
    assert core.desk.limits.keep_s == 7.0


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
