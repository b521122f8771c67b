"""Models that sleep: who does, what those are told who ask, and what becomes of the ones that cannot."""

from typing import Any

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.control import Control
from ingled.core.ladder import Sleep
from ingled.core.placement import Device, Terms
from ingled.core.residency import Model, State

from tests.core.driven import BOB, ROOT, ended, make_ready, only, refusals, request
from tests.core.test_residents import core, gone, news, two_ready

LIGHT_S, DEEP_S = 0.5, 0.8


def able(core: Control, *names: str, weights: int = 30, left: int = 2, host: int | None = 1000) -> None:
    wake_s = {1: LIGHT_S, 2: DEEP_S}
    for name in names:
        core.handle(on.SleepSeen(0.0, name, Sleep("", weights, left, wake_s)))
    if host is not None:
        core.handle(on.HostSeen(0.0, host))


def loaded() -> Control:
    """A model that can sleep, and is ready."""
    one = core(a={})
    able(one, "a")
    one.handle(on.LoadAsked(0, ROOT, 0, "a", False))
    make_ready(one, "a", 1)
    return one


def asleep(core: Control, name: str, now: float, left: int = 2) -> list[do.Effect]:
    model = core.models[name]
    return core.handle(on.WorkerAsleep(now, name, model.pid or 0, model.level, left))


def sleep(core: Control, name: str, now: float = 20.0, level: int | None = None, ref: int = 9) -> list[do.Effect]:
    return core.handle(on.SleepAsked(now, ROOT, ref, name, level))


def told(effects: list[do.Effect]) -> list[Any]:
    """The values with which calls were answered."""
    messages = [send.message for send in only(effects, do.Send)]
    return [message.value for message in messages if hasattr(message, "value")]


def message_of(effects: list[do.Effect]) -> str:
    return str(only(effects, do.Send)[-1].message.message)  # type: ignore[union-attr]


def test_a_model_is_put_to_sleep_and_whoever_asks_it_wakes_it() -> None:
    one = core(a={})
    able(one, "a")
    one.handle(request("r0", model="a", now=0))
    make_ready(one, "a", 1)
    one.handle(ended("r0", 2))
    effects = sleep(one, "a")
    assert only(effects, do.SleepWorker) == [do.SleepWorker("a", "50", 1)]
    assert (one.models["a"].state, told(effects)) == (State.DOZING, [])
    assert told(asleep(one, "a", 21)) == [{"model": "a", "state": "sleeping", "level": 1}]
    effects = one.handle(request("r1", model="a", now=30))
    assert only(effects, do.WakeWorker) == [do.WakeWorker("a", "50")]
    assert only(effects, do.RunRequest) == []
    assert news(effects)[-1] == ("waking", "a")
    back = one.handle(on.WorkerReady(32, "a", 50))
    assert [run.record.id for run in only(back, do.RunRequest)] == ["r1"]
    assert one.models["a"].sleep.wake_s == {1: 2.0, 2: DEEP_S}, "as it was measured"
    assert one.models["a"].terms.reload_s == 1.0, "that was no load"


def test_what_makes_room_sleeps_where_it_can() -> None:
    three = core(a={}, b={}, c={})
    able(three, "a", "b", "c")
    two_ready(three)
    effects = three.handle(request("r1", model="c", now=20))
    assert only(effects, do.SleepWorker) == [do.SleepWorker("b", "51", 1)]
    assert only(effects, do.StopWorker) == []
    assert only(effects, do.StartWorker) == [], "its memory is not free yet"
    assert only(asleep(three, "b", 21), do.StartWorker) == [do.StartWorker("c")]
    make_ready(three, "c", 22, 52)
    assert three.models["b"].state is State.SLEEPING
    assert sum(one.terms.need for one in three.residents.present(23)) == 82


def test_what_keeps_too_much_asleep_goes_out() -> None:
    three = core(a={}, b={}, c={})
    able(three, "b", left=21)
    two_ready(three)
    effects = three.handle(request("r1", model="c", now=20))
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["b"], "100 have no room for 40, 40 and 21"


def test_a_model_that_sleeps_goes_out_when_its_rest_is_needed() -> None:
    three = core(a={"need": 49}, b={"need": 49}, c={"need": 49})
    able(three, "b")
    two_ready(three)
    three.handle(request("r1", model="c", now=20))
    asleep(three, "b", 21, left=4)  # more than was known before
    assert three.models["b"].state is State.STOPPING
    assert only(gone(three, "b", 22), do.StartWorker) == [do.StartWorker("c")]


def test_without_memory_in_the_machine_it_sleeps_deeper() -> None:
    two = core(a={}, b={})
    able(two, "a", "b", weights=30, host=40)
    two_ready(two)
    assert only(sleep(two, "a"), do.SleepWorker) == [do.SleepWorker("a", "50", 1)]
    asleep(two, "a", 21)
    assert only(sleep(two, "b", 22), do.SleepWorker) == [do.SleepWorker("b", "51", 2)], "the first one has taken it"
    three = core(a={})
    able(three, "a", host=10)
    three.handle(on.LoadAsked(0, ROOT, 0, "a", False))
    make_ready(three, "a", 1)
    refused = sleep(three, "a", level=1)
    assert refusals(refused) == ["does_not_fit"] and "which has 10 B" in message_of(refused)


def test_loads_sleeps_and_wakes_wait_for_one_another() -> None:
    three = core(a={"need": 30}, b={"need": 30}, c={"need": 30})
    able(three, "a", "b", "c")
    two_ready(three)
    three.handle(request("c1", model="c", now=20))
    assert three.models["c"].state is State.LOADING
    for ref, name in enumerate("ab"):
        assert only(sleep(three, name, 21, ref=ref), do.SleepWorker) == []
    effects = make_ready(three, "c", 22, 52)
    assert [one.model for one in only(effects, do.SleepWorker)] == ["a"]
    effects = three.handle(request("a1", BOB, model="a", now=23))
    assert only(effects, do.WakeWorker) == [], "it still falls asleep"
    effects = asleep(three, "a", 24)
    assert [one.model for one in only(effects, do.SleepWorker)] == ["b"], "it was told to before"
    assert only(effects, do.WakeWorker) == []
    assert only(asleep(three, "b", 25), do.WakeWorker) == [do.WakeWorker("a", "50")]


def test_who_cannot_sleep_says_why() -> None:
    two = core(a={}, b={})
    two_ready(two)
    two.handle(on.SleepSeen(20, "a", Sleep("on a CPU nothing would be freed")))
    refused = sleep(two, "a")
    assert refusals(refused) == ["unsupported"]
    assert message_of(refused) == "model 'a' cannot sleep: on a CPU nothing would be freed"
    able(two, "b")
    two.handle(request("b1", model="b", now=21))
    assert refusals(sleep(two, "b", 22)) == ["conflict"], "it runs a request"
    assert refusals(sleep(two, "nope")) == ["no_such_model"]
    cold = core(a={})
    assert "only a model that is ready" in message_of(sleep(cold, "a"))


def test_a_level_is_not_changed_in_sleep() -> None:
    one = loaded()
    sleep(one, "a", level=1)
    asleep(one, "a", 21)
    assert told(sleep(one, "a", 22, level=1)) == [{"model": "a", "state": "sleeping", "level": 1}]
    assert refusals(sleep(one, "a", 23, level=2)) == ["conflict"]


def test_what_gives_nothing_back_is_stopped_and_never_tried_again() -> None:
    one = loaded()
    sleep(one, "a")
    effects = one.handle(on.SleepFailed(21, "a", 50, "it gave back 0 MiB of 30 MiB"))
    assert only(effects, do.StopWorker) == [do.StopWorker("a", "50", 50)]
    assert refusals(effects) == ["engine_error"] and "gave back 0 MiB" in message_of(effects)
    assert only(gone(one, "a", 22), do.StartWorker) == [], "it was to give memory back"
    one.handle(on.LoadAsked(23, ROOT, 0, "a", False))
    make_ready(one, "a", 24, 51)
    assert refusals(sleep(one, "a", 25)) == ["unsupported"]


def test_what_wakes_as_another_one_is_loaded_anew_for_those_who_wait() -> None:
    one = loaded()
    sleep(one, "a")
    asleep(one, "a", 21)
    one.handle(request("r1", model="a", now=22))
    effects = one.handle(on.SleepFailed(23, "a", 50, "it answered differently"))
    assert only(effects, do.StopWorker) and not only(effects, do.CloseStream)
    assert only(gone(one, "a", 24), do.StartWorker) == [do.StartWorker("a")]
    assert [run.record.id for run in only(make_ready(one, "a", 25, 51), do.RunRequest)] == ["r1"]


def test_a_death_in_sleep_is_not_made_good_before_somebody_asks() -> None:
    for how in ("process", "engine"):
        one = loaded()
        sleep(one, "a")
        asleep(one, "a", 21)
        if how == "engine":
            one.handle(on.EngineDied(22, "a", 50, "killed"))
        effects = gone(one, "a", 23)
        assert one.models["a"].state is State.COLD
        assert only(effects, do.SetTimer) == [] == only(effects, do.StartWorker)
        assert only(one.handle(request("r1", model="a", now=24)), do.StartWorker) == [do.StartWorker("a")]


def test_who_falls_asleep_when_somebody_asks_wakes_at_once() -> None:
    one = loaded()
    sleep(one, "a")
    assert only(one.handle(on.LoadAsked(20.5, BOB, 4, "a", True)), do.StartWorker) == []
    assert only(asleep(one, "a", 21), do.WakeWorker) == [do.WakeWorker("a", "50")]
    assert {"model": "a", "state": "ready"} in told(one.handle(on.WorkerReady(23, "a", 50)))


def test_an_order_that_a_link_has_lost_is_given_again() -> None:
    one = loaded()
    sleep(one, "a")
    assert only(one.handle(on.WorkerReady(21, "a", 50)), do.SleepWorker) == [do.SleepWorker("a", "50", 1)]
    asleep(one, "a", 22)
    one.handle(on.LoadAsked(23, ROOT, 4, "a", True))
    assert only(asleep(one, "a", 24), do.WakeWorker) == [do.WakeWorker("a", "50")]


def test_a_sleeping_model_of_an_earlier_daemon_is_adopted_asleep() -> None:
    one = core(a={})
    one.handle(on.WorkerAttached(0, "a", "50", 50))
    one.handle(on.WorkerAsleep(1, "a", 50, 2, 3))
    assert (one.models["a"].state, one.models["a"].level) == (State.SLEEPING, 2)
    assert only(one.handle(request("r1", model="a", now=2)), do.WakeWorker) == [do.WakeWorker("a", "50")]


def test_idle_models_sleep_at_a_yield_and_expire_asleep() -> None:
    two = core(a={"ttl": 100.0}, b={})
    able(two, "a", "b")
    two_ready(two)
    effects = two.handle(on.YieldAsked(20, ROOT, 3, None))
    assert told(effects)[-1] == {"models": ["b", "a"], "bytes": 76}
    assert [one.model for one in only(effects, do.SleepWorker)] == ["b"]
    assert [one.model for one in only(asleep(two, "b", 21), do.SleepWorker)] == ["a"]
    assert do.SetTimer(("ttl", "a"), 113.0) in asleep(two, "a", 22)
    assert [stop.model for stop in only(two.handle(on.TimerFired(113, ("ttl", "a"))), do.StopWorker)] == ["a"]
    assert told(two.handle(on.YieldAsked(114, ROOT, 4, 2)))[-1] == {"models": ["b"], "bytes": 2}


def test_a_group_has_one_model_awake() -> None:
    two = core(a={"group": "g", "need": 10}, b={"group": "g", "need": 10})
    able(two, "a", "b")
    two.handle(request("a1", model="a", now=0))
    make_ready(two, "a", 1)
    two.handle(ended("a1", 2))
    assert [one.model for one in only(two.handle(request("b1", model="b", now=3)), do.SleepWorker)] == ["a"]
    assert only(asleep(two, "a", 4), do.StartWorker) == [do.StartWorker("b")], "one that sleeps is out of its way"


def test_requests_that_a_closed_model_holds_wait_with_it_in_its_sleep() -> None:
    pair = core(patience=5.0, a={"need": 60}, b={"need": 60})
    able(pair, "a", "b")
    pair.handle(request("a1", model="a", now=0))
    make_ready(pair, "a", 1)
    pair.handle(request("b1", BOB, model="b", now=2))
    pair.handle(on.TimerFired(8.0, ("place", "")))
    pair.handle(request("a2", model="a", now=9))
    assert [one.model for one in only(pair.handle(ended("a1", 10)), do.SleepWorker)] == ["a"]
    assert only(asleep(pair, "a", 11), do.StartWorker) == [do.StartWorker("b")]
    make_ready(pair, "b", 12, 51)
    effects = pair.handle(ended("b1", 13))
    assert [one.model for one in only(effects, do.SleepWorker)] == ["b"], "a2 waits"
    assert only(asleep(pair, "b", 14), do.WakeWorker) == [do.WakeWorker("a", "50")]
    back = pair.handle(on.WorkerReady(15, "a", 50))
    assert [begin.id for begin in only(back, do.BeginRequest)] == ["a2"]


def test_an_adapter_sleeps_with_its_base_and_is_loaded_again_when_it_is_asked() -> None:
    two = core(a={}, style={"need": 0, "adapts": "a"})
    able(two, "a")
    two.handle(request("s1", model="style", now=0))
    make_ready(two, "a", 1)
    two.handle(on.AdapterReady(2, "style", 50))
    assert refusals(sleep(two, "style", 3)) == ["unsupported"]
    assert message_of(sleep(two, "style", 3)) == "model 'style' is an adapter: it has no memory of its own to give back"
    assert only(sleep(two, "a", 3), do.SleepWorker) == [], "its adapter runs a request"
    two.handle(ended("s1", 4))
    assert only(sleep(two, "a", 5), do.SleepWorker) == [do.SleepWorker("a", "50", 1)]
    assert two.models["style"].state is State.COLD
    asleep(two, "a", 6)
    assert only(two.handle(request("s2", model="style", now=7)), do.WakeWorker) == [do.WakeWorker("a", "50")]
    assert only(two.handle(on.WorkerReady(8, "a", 50)), do.AddAdapter) == [do.AddAdapter("50", "style")]
    back = two.handle(on.AdapterReady(9, "style", 50))
    assert [run.record.id for run in only(back, do.RunRequest)] == ["s2"]


def test_one_that_is_to_wake_counts_once_for_those_who_ask_later() -> None:
    models = [Model("a", terms=Terms(60)), Model("b", terms=Terms(35)), Model("v", terms=Terms(60))]
    one = Control(models, "a", device=Device("gpu", 100))
    able(one, "a", left=10)
    one.handle(on.LoadAsked(0.0, ROOT, 0, "a", wait=False))
    make_ready(one, "a", 1.0)
    sleep(one, "a", 20.0)
    asleep(one, "a", 21.0, left=10)
    one.handle(on.LoadAsked(22.0, ROOT, 1, "v", wait=False))
    make_ready(one, "v", 23.0, 60)
    one.handle(request("r1", model="a", now=40.0))
    assert one.models["v"].state is State.STOPPING, "it makes room"
    one.handle(request("r2", model="b", now=41.0))
    assert one.models["a"].state is State.SLEEPING, "there is room for both, and it keeps what it has"
