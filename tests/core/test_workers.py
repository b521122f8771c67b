"""Models and their workers: loads, deaths, unloads, as events and effects."""

import pytest
from ingle.wire.schema import Done, Progress, Result
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Caller
from ingled.core.control import Control
from ingled.core.residency import Model, State
from msgspec import UNSET

from tests.core.driven import ALICE, BOB, control, ended, ends, make_ready, only, refusals, request


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


def test_only_of_what_went_wrong_a_change_tells_the_fault() -> None:
    core = control()

    def why(effects: list[do.Effect]) -> list[tuple[str, str]]:
        return [(one.level, one.text.partition(": ")[2]) for one in only(effects, do.Log)]

    core.handle(on.LoadAsked(1.0, BOB, 7, "ember", wait=True))
    core.handle(on.WorkerForked(2.0, "ember", 50))
    failed = core.handle(on.LoadFailed(3.0, "ember", 50, "no weights", ()))
    assert why(failed) == [("error", "loading -> failed (no weights)")]
    core.handle(on.WorkerGone(3.1, "ember", 50, "exit status 1"))
    again = core.handle(on.LoadAsked(5.0, BOB, 8, "ember", wait=True))
    assert why(again) == [("info", "failed -> loading (wanted)")], "not why the one before it failed"
    make_ready(core, now=6.0, pid=51)
    gone = core.handle(on.WorkerGone(7.0, "ember", 51, "killed by SIGKILL"))
    level, text = why(gone)[0]
    assert (level, "SIGKILL" in text) == ("warning", True)


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
    core.handle(on.UnloadAsked(1.1, ALICE, 2, "ember", force=False, wait=True))
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
    core.handle(on.WorkerReady(1.1, "ember", 50, load_s=20.0))
    assert only(core.handle(request()), do.RunRequest) != []
    assert core.models["ember"].terms.reload_s == 20, "and it is known how long its load took, long ago"


def test_the_start_of_the_nursery_is_no_part_of_a_load() -> None:
    core = control()
    core.handle(on.LoadAsked(1.0, ALICE, 1, "ember", wait=False))
    core.handle(on.NurseryAttached(30.0))
    core.handle(on.WorkerForked(30.0, "ember", 50))
    core.handle(on.WorkerAttached(30.1, "ember", "50", 50))
    core.handle(on.WorkerReady(34.0, "ember", 50, load_s=3.9))
    ember = core.models["ember"]
    assert ember.terms.reload_s == 3.9
    core.handle(on.WorkerGone(40.0, "ember", 50, "exit status 0"))
    assert ember.left_s(40.0) == 3.9, "what the next load is said to take"


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
    assert refusals(core.handle(on.UnloadAsked(3.0, ALICE, 4, "e", force=False, wait=True))) == ["conflict"]
    effects = core.handle(on.UnloadAsked(3.0, ALICE, 4, "e", force=True, wait=True))
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


def test_a_nursery_that_comes_back_is_told_what_to_fork() -> None:
    core = control()
    core.handle(request())
    assert core.handle(on.NurseryAttached(2.0)) == [do.StartWorker("ember")]
    effects = core.handle(on.NurseryFailed(3.0, "no vllm", ("log",)))
    assert ends(effects) == [("r1", "load_failed")]


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


def test_an_unload_is_answered_when_the_memory_is_free() -> None:
    core = control()
    make_ready_by_load(core)

    def asked(ref: int, *, wait: bool = True, caller: Caller = ALICE) -> list[object]:
        effects = core.handle(on.UnloadAsked(3.0, caller, ref, "ember", force=False, wait=wait))
        return [one.message for one in only(effects, do.Send)]

    def told(state: str, *refs: int) -> list[object]:
        return [Result(ref, {"model": "ember", "state": state}) for ref in refs]

    assert asked(4, wait=False) == told("stopping", 4)
    assert asked(5) == asked(6) == asked(7, caller=BOB) == []
    core.handle(on.ConnectionGone(3.1, BOB.conn, left=True))
    effects = core.handle(on.WorkerGone(3.2, "ember", 50, "exit status 0"))
    assert [one.message for one in only(effects, do.Send)] == told("cold", 5, 6), "each once, and who has gone not"
    assert asked(8) == told("cold", 8), "there is nothing to wait for"


def test_a_load_right_after_an_unload_is_answered_when_the_model_is_ready_again() -> None:
    core = control()
    make_ready_by_load(core)
    core.handle(on.UnloadAsked(3.0, ALICE, 4, "ember", force=False, wait=True))
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
    core.handle(on.UnloadAsked(1.1, ALICE, 2, "ember", force=False, wait=True))
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
    core.handle(on.UnloadAsked(1.1, ALICE, 2, "ember", force=False, wait=True))
    core.handle(on.NurseryAttached(2.0))
    assert core.models["ember"].state is State.COLD


def told(effects: list[do.Effect]) -> list[tuple[int | None, int | None]]:
    """Percent and milliseconds left of the progress that is told."""
    found = [e.message for e in only(effects, do.Send) if isinstance(e.message, Progress)]
    return [(one.percent or None, one.eta_ms or None) for one in found]


def test_who_waits_for_a_load_whose_time_is_known_is_told_again_as_it_passes() -> None:
    core = Control([Model("ember")], "ember")
    tell = ("tell", "ember")
    first = core.handle(request(now=1))
    assert tell not in [timer.key for timer in only(first, do.SetTimer)], "how long it takes is not known"
    core = Control([Model("ember")], "ember")
    core.handle(on.NeedSeen(1, "ember", 40, 10.0))
    assert do.SetTimer(tell, 3.0) in core.handle(request(now=2))
    waits = core.handle(on.NurseryLoading(3, 50))
    assert told(waits) == [(30, None)], "how long the nursery takes was never measured"
    assert core.handle(on.TimerFired(3, tell))[1:] == [], "until it is forked, time tells nothing"
    assert do.SetTimer(tell, 11.0) in core.handle(on.WorkerForked(10, "ember", 50))
    assert told(core.handle(on.WorkerLoading(11, "ember", 50, "weights", 5))) == [(37, 9000)]
    again = core.handle(on.TimerFired(15, tell))
    assert told(again) == [(65, 5000)] and do.SetTimer(tell, 16.0) in again
    assert told(core.handle(on.WorkerLoading(16, "ember", 50, "warming", 85))) == [(89, 4000)], (
        "its worker knows better"
    )
    assert told(core.handle(on.TimerFired(40, tell)))[0][0] == 99, "it takes longer than last time"
    core.handle(on.WorkerAttached(41, "ember", "50", 50))
    core.handle(on.WorkerReady(41, "ember", 50))
    assert core.handle(on.TimerFired(42, tell)) == []
