"""The machine is suspended: what its memory loses is taken out of it, and requests go on when it is back."""

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.control import Control
from ingled.core.events import Survival
from ingled.core.placement import Device, Terms
from ingled.core.residency import Model, State

from tests.core.driven import BOB, ROOT, ended, ends, make_ready, only, request
from tests.core.test_residents import core, gone, news
from tests.core.test_sleepers import able, asleep

WITHIN_S = 5.0


def begins(core: Control, now: float, memory: Survival = Survival.LOST) -> list[do.Effect]:
    return core.handle(on.SuspendBegins(now, memory, WITHIN_S))


def allowed(effects: list[do.Effect]) -> bool:
    return bool(only(effects, do.AllowSuspend))


def loaded(*able_ones: str, **models: object) -> Control:
    """Two models that are ready; those that are named can sleep."""
    two = core(a={}, b={}, c={})
    able(two, *able_ones)
    for name, pid in (("a", 50), ("b", 51)):
        two.handle(on.LoadAsked(0, ROOT, 0, name, False))
        make_ready(two, name, 1, pid)
    return two


def test_in_ram_nothing_is_done() -> None:
    two = loaded()
    two.handle(request("r1", model="a", now=2))
    effects = begins(two, 3, Survival.STAYS)
    assert allowed(effects) and not only(effects, do.AbortRequest)
    run = two.handle(request("r2", model="b", now=4))
    assert [one.record.id for one in only(run, do.RunRequest)] == ["r2"]
    back = two.handle(on.SuspendEnds(5))
    assert not only(back, do.CheckWorker)
    assert ends(two.handle(ended("r1", 6))) == [("r1", "done")]


def test_models_fall_asleep_one_after_the_other_or_go_out_and_come_back() -> None:
    two = loaded("a")
    effects = begins(two, 20)
    assert [one.model for one in only(effects, do.SleepWorker)] == ["a"]
    assert [one.model for one in only(effects, do.StopWorker)] == ["b"], "it cannot sleep"
    assert not allowed(effects)
    assert not allowed(asleep(two, "a", 21))
    assert allowed(gone(two, "b", 22))
    assert not only(two.handle(on.LoadAsked(23, ROOT, 7, "b", True)), do.StartWorker)
    back = two.handle(on.SuspendEnds(30))
    assert only(back, do.StartWorker) == [do.StartWorker("b")] and not only(back, do.WakeWorker), "b is waited for"
    assert [one.model for one in only(make_ready(two, "b", 31, 51), do.WakeWorker)] == ["a"]


def test_running_requests_have_half_of_the_time_and_go_on_afterwards() -> None:
    two = loaded("a", "b")
    two.handle(request("r1", model="a", now=2))
    two.handle(request("r2", model="b", now=2))
    effects = begins(two, 3)
    assert not only(effects, do.AbortRequest) and not only(effects, do.SleepWorker)
    assert do.SetTimer(("suspend", ""), 5.5) in effects
    waits = two.handle(request("r3", BOB, model="a", now=4))
    assert news(waits)[-1] == ("queued", "the machine is about to be suspended") and not only(waits, do.RunRequest)
    done = two.handle(ended("r2", 4.5))
    assert ends(done) == [("r2", "done")] and [one.model for one in only(done, do.SleepWorker)] == ["b"]
    asleep(two, "b", 5)
    taken = two.handle(on.TimerFired(5.5, ("suspend", "")))
    assert only(taken, do.AbortRequest) == [do.AbortRequest("50", "r1")]
    assert [one.record.id for one in only(taken, do.KeepWaiting)] == ["r1"], "it outlives a death of the daemon"
    assert [one.model for one in only(taken, do.SleepWorker)] == ["a"]
    last = two.handle(on.RunEnded(5.6, "r1", "abort", 1, 0, 3, 1.0, None, None))
    assert not ends(last)
    last = asleep(two, "a", 6)
    assert allowed(last) and [one.record.id for one in only(last, do.KeepWaiting)] == ["r1"], "with its last tokens"
    two.handle(on.SuspendEnds(100))
    effects = two.handle(on.WorkerReady(101, "a", 50))  # first: it is waited for
    assert {run.record.id for run in only(effects, do.RunRequest)} == {"r1"}
    assert {begin.id for begin in only(effects, do.BeginRequest)} == {"r3"}, "its worker has held it all the time"
    assert two.requests.records["r1"].resumed == 0, "nobody holds it to be at fault"


def test_an_answer_that_ends_while_it_is_taken_back_has_ended() -> None:
    two = loaded("a", "b")
    two.handle(request("r1", model="a", now=2))
    begins(two, 3)
    two.handle(on.TimerFired(5.5, ("suspend", "")))
    assert ends(two.handle(ended("r1", 5.6))) == [("r1", "done")]
    assert "r1" not in [one.id for one in two.requests.waiting("a")]


def test_a_load_is_broken_off_and_begun_anew() -> None:
    one = core(a={})
    one.handle(on.LoadAsked(0, ROOT, 5, "a", True))
    assert allowed(begins(one, 1)), "nothing of it is there yet"
    effects = one.handle(on.WorkerForked(2, "a", 50))
    assert only(effects, do.StopWorker) == [do.StopWorker("a", None, 50)]
    gone(one, "a", 3)
    assert only(one.handle(on.SuspendEnds(4)), do.StartWorker) == [do.StartWorker("a")]
    assert only(make_ready(one, "a", 5), do.Send)[-1].message.value == {"model": "a", "state": "ready"}  # type: ignore[union-attr]


def test_what_the_driver_saves_is_looked_at_before_and_after() -> None:
    two = loaded()
    two.handle(request("r1", model="b", now=2))
    effects = begins(two, 3, Survival.SAVED)
    assert only(effects, do.CheckWorker) == [do.CheckWorker("a", "50")] and not allowed(effects)
    assert allowed(two.handle(on.WorkerReady(4, "a", 50)))
    back = two.handle(on.SuspendEnds(10))
    assert only(back, do.CheckWorker) == [do.CheckWorker("a", "50")]
    assert two.models["a"].state is State.CHECKING
    waits = two.handle(request("r2", model="a", now=11))
    assert news(waits)[-1] == ("queued", "a: it is looked at, because the machine was suspended")
    run = two.handle(on.WorkerReady(12, "a", 50))
    assert [one.record.id for one in only(run, do.RunRequest)] == ["r2"]
    idle = two.handle(ended("r1", 13))
    assert only(idle, do.CheckWorker) == [do.CheckWorker("b", "51")], "it was busy until now"


def test_what_does_not_answer_as_before_is_loaded_anew() -> None:
    two = loaded()
    begins(two, 3, Survival.SAVED)
    for name, pid in (("a", 50), ("b", 51)):
        two.handle(on.WorkerReady(4, name, pid))
    two.handle(on.SuspendEnds(10))
    died = two.handle(on.EngineDied(11, "a", 50, "after the machine was suspended it answered differently"))
    assert [stop.model for stop in only(died, do.StopWorker)] == ["a"]
    assert only(gone(two, "a", 12), do.SetTimer)[0].key == ("restart", "a")


def test_a_wake_that_fails_after_it_does_not_say_that_the_model_cannot_sleep() -> None:
    two = loaded("a", "b")
    begins(two, 3)
    asleep(two, "a", 4)
    assert allowed(asleep(two, "b", 5))
    two.handle(on.SuspendEnds(10))
    two.handle(on.SleepFailed(11, "a", 50, "it answered the same prompt differently"))
    assert two.models["a"].sleep.can
    assert only(gone(two, "a", 12), do.StartWorker) == [] and two.models["b"].state is State.WAKING
    assert only(two.handle(on.WorkerReady(13, "b", 51)), do.StartWorker) == [do.StartWorker("a")]


def test_what_was_not_ready_in_time_is_looked_at_and_its_requests_go_on() -> None:
    two = loaded("a", "b")
    two.handle(request("r1", model="a", now=2))
    begins(two, 3)
    back = two.handle(on.SuspendEnds(4))
    assert only(back, do.AbortRequest) == [do.AbortRequest("50", "r1")]
    assert only(back, do.CheckWorker) == [do.CheckWorker("a", "50")], "b is on its way to sleep"
    run = two.handle(on.WorkerReady(5, "a", 50))
    assert [one.record.id for one in only(run, do.RunRequest)] == ["r1"]
    assert only(asleep(two, "b", 6), do.WakeWorker) == [do.WakeWorker("b", "51")], "it was there before"


def test_a_daemon_that_ends_keeps_nobody() -> None:
    two = loaded("a")
    two.handle(request("r1", model="a", now=2))
    two.handle(on.DrainAsked(3))
    assert allowed(begins(two, 4))
    assert ends(two.handle(ended("r1", 5))) == [("r1", "done")]


def test_requests_of_an_adapter_are_taken_back_from_its_base() -> None:
    models = [Model("base", terms=Terms(40)), Model("loud", adapts="base")]
    one = Control(models, "base", device=Device("gpu", 100))
    able(one, "base")
    one.handle(request("r1", model="loud", now=0))
    make_ready(one, "base", 1)
    assert [run.record.id for run in only(one.handle(on.AdapterReady(2, "loud", 50)), do.RunRequest)] == ["r1"]
    begins(one, 3)
    taken = one.handle(on.TimerFired(5.5, ("suspend", "")))
    assert only(taken, do.AbortRequest) == [do.AbortRequest("50", "r1")]
    assert [sleep.model for sleep in only(taken, do.SleepWorker)] == ["base"]
    last = asleep(one, "base", 6)
    assert allowed(last) and [kept.record.id for kept in only(last, do.KeepWaiting)] == ["r1"]
    assert only(one.handle(on.SuspendEnds(7)), do.WakeWorker) == [do.WakeWorker("base", "50")]
    assert only(one.handle(on.WorkerReady(8, "base", 50)), do.AddAdapter) == [do.AddAdapter("50", "loud")]
    assert [run.record.id for run in only(one.handle(on.AdapterReady(9, "loud", 50)), do.RunRequest)] == ["r1"]
