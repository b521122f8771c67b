"""Models that share a device: who is put out for whom, who waits and for how long, and what those are told."""

from typing import Any

from ingle.wire.schema import Progress
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Caller, Rights
from ingled.core.control import Control
from ingled.core.ladder import Sleep
from ingled.core.placement import Device, Terms
from ingled.core.residency import Model, State

from tests.core.driven import ALICE, BOB, ROOT, ended, ends, make_ready, only, refusals, request


def core(patience: float = 30.0, **models: dict[str, Any]) -> Control:
    """Models of 40 bytes where there is room for 100."""
    made = [
        Model(name, terms=Terms(terms.pop("need", 40), **{k: terms.pop(k) for k in list(terms) if k in KEYS}), **terms)
        for name, terms in models.items()
    ]
    return Control(made, "a", device=Device("gpu", 100), patience_s=patience)


KEYS = set(Terms.__dataclass_fields__)


def gone(core: Control, name: str, now: float) -> list[do.Effect]:
    return core.handle(on.WorkerGone(now, name, core.models[name].pid or 0, "exit 0"))


def two_ready(core: Control) -> None:
    """`a` and `b` are there, `a` was used last."""
    for name, now, pid in (("b", 1.0, 51), ("a", 10.0, 50)):
        core.handle(on.LoadAsked(now, ROOT, 0, name, False))
        make_ready(core, name, now + 1, pid)
        core.handle(request(f"{name}0", model=name, now=now + 2))
        core.handle(ended(f"{name}0", now + 3))


def news(effects: list[do.Effect]) -> list[tuple[str, str]]:
    found = [e.message for e in only(effects, do.Send) if isinstance(e.message, Progress)]
    return [(message.phase, str(message.what)) for message in found]


def test_an_idle_model_makes_room_and_comes_back_when_it_is_asked() -> None:
    three = core(a={}, b={}, c={})
    two_ready(three)
    effects = three.handle(request("r1", model="c", now=20))
    assert only(effects, do.StopWorker) == [do.StopWorker("b", "51", 51)]
    assert news(effects)[0] == ("evicting", "c: b makes room")
    assert only(effects, do.StartWorker) == [], "the memory is not free yet"
    assert only(gone(three, "b", 21), do.StartWorker) == [do.StartWorker("c")]
    assert [run.record.id for run in only(make_ready(three, "c", 22, 52), do.RunRequest)] == ["r1"]
    assert three.models["a"].state is State.READY
    three.handle(ended("r1", 23))
    three.handle(request("a1", model="a", now=24))
    back = three.handle(request("r2", model="b", now=30))
    assert [stop.model for stop in only(back, do.StopWorker)] == ["c"], "a is busy"


def test_a_busy_model_that_had_better_go_is_waited_for_as_long_as_the_other_would_load() -> None:
    for ends_in_time in (True, False):
        three = core(a={}, b={}, c={})  # whose loads take a second
        two_ready(three)
        for number, now in enumerate((14.0, 15.0)):
            three.handle(request(f"again{number}", model="a", now=now))
            three.handle(ended(f"again{number}", now + 0.5))
        three.handle(request("b1", BOB, model="b", now=16))
        effects = three.handle(request("c1", model="c", now=20))
        assert (only(effects, do.StopWorker), news(effects)[0]) == ([], ("queued", "c: model 'b' is busy"))
        assert do.SetTimer(("place", ""), 21.0) in effects
        over = three.handle(ended("b1", 20.5) if ends_in_time else on.TimerFired(21.0, ("place", "")))
        assert [stop.model for stop in only(over, do.StopWorker)] == ["b" if ends_in_time else "a"]


def test_one_load_at_a_time() -> None:
    three = core(a={}, b={}, c={})
    assert only(three.handle(request("r1", model="a")), do.StartWorker) == [do.StartWorker("a")]
    effects = three.handle(request("r2", model="b"))
    assert (only(effects, do.StartWorker), news(effects)[0]) == ([], ("queued", "b: model 'a' is being loaded"))
    assert do.StartWorker("b") in make_ready(three, "a")


def test_who_ran_out_of_memory_and_would_again_has_failed_and_shows_why() -> None:
    one = core(a={"need": 90})
    one.handle(request("r1", model="a"))
    make_ready(one, "a", 2.0, 50)
    one.handle(on.NeedSeen(3.0, "a", 105, 1.0))
    effects = one.handle(on.WorkerGone(3.0, "a", 50, "killed by SIGKILL (the kernel ran out of memory)"))
    timer = only(effects, do.SetTimer)[0]
    assert (timer.key, one.models["a"].state) == (("restart", "a"), State.COLD)
    effects = one.handle(on.TimerFired(timer.at, timer.key))
    assert ends(effects) == [("r1", "does_not_fit")] and only(effects, do.StartWorker) == []
    assert one.models["a"].state is State.FAILED
    assert "ran out of memory" in str(one.models["a"].why) and "needs 105 B" in str(one.models["a"].why)
    one.handle(on.NeedSeen(5.0, "a", 95, 1.0))
    assert only(one.handle(on.LoadAsked(90.0, ROOT, 5, "a", False)), do.StartWorker) == [do.StartWorker("a")]


def test_what_never_fits_is_refused_at_once_with_what_would_help() -> None:
    small = core(a={}, big={"need": 101})
    effects = small.handle(request("r1", model="big"))
    assert ends(effects) == [("r1", "does_not_fit")]
    assert only(effects, do.StopWorker) == []
    assert refusals(small.handle(on.LoadAsked(2, ROOT, 5, "big", True))) == ["does_not_fit"]
    assert refusals(small.handle(on.LoadAsked(2, ROOT, 5, "big", False))) == ["does_not_fit"]
    assert "needs 101 B, and gpu has 100 B" in str(only(effects, do.CloseStream)[0].end)


def test_nobody_waits_for_a_busy_model_longer_than_patience_and_its_end() -> None:
    pair = core(patience=5.0, a={"need": 60}, b={"need": 60})
    pair.handle(request("a1", model="a", now=0))
    make_ready(pair, "a", 1)
    effects = pair.handle(request("b1", BOB, model="b", now=2))
    assert news(effects)[0] == ("queued", "b: model 'a' is busy")
    assert do.SetTimer(("place", ""), 7.0) in effects
    assert only(pair.handle(request("a2", model="a", now=3)), do.RunRequest), "until then `a` goes on"
    pair.handle(on.TimerFired(7.0, ("place", "")))
    assert only(pair.handle(request("a3", model="a", now=8)), do.RunRequest) == [], "now it takes no more"
    pair.handle(ended("a1", 9))
    assert [stop.model for stop in only(pair.handle(ended("a2", 10)), do.StopWorker)] == ["a"]
    assert only(gone(pair, "a", 11), do.StartWorker) == [do.StartWorker("b")]
    assert [run.record.id for run in only(make_ready(pair, "b", 12, 51), do.RunRequest)] == ["b1"]
    assert [stop.model for stop in only(pair.handle(ended("b1", 13)), do.StopWorker)] == ["b"], "a3 waits"
    gone(pair, "b", 14)
    assert [run.record.id for run in only(make_ready(pair, "a", 15, 52), do.RunRequest)] == ["a3"]


def test_a_model_that_was_closed_for_somebody_who_left_opens_again() -> None:
    pair = core(patience=5.0, a={"need": 60}, b={"need": 60})
    pair.handle(request("a1", model="a", now=0))
    make_ready(pair, "a", 1)
    pair.handle(request("b1", BOB, model="b", now=2))
    pair.handle(on.TimerFired(8.0, ("place", "")))
    (held,) = only(pair.handle(request("a2", model="a", now=9)), do.HoldRequest)
    assert held.record.id == "a2", "a death of the daemon does not lose it"
    effects = pair.handle(on.CancelAsked(10, BOB, 1, "b1"))
    assert only(effects, do.BeginRequest) == [do.BeginRequest("50", "a2", 0)]


def test_an_idle_model_is_unloaded_when_its_time_is_over() -> None:
    one = core(a={"ttl": 10.0})
    one.handle(request("r1", model="a", now=0))
    assert do.SetTimer(("ttl", "a"), 12.0) in make_ready(one, "a", 2)
    one.handle(ended("r1", 7))
    assert one.handle(on.TimerFired(12.0, ("ttl", "a"))) == [do.SetTimer(("ttl", "a"), 17.0)]
    assert only(one.handle(on.TimerFired(17.0, ("ttl", "a"))), do.StopWorker) == [do.StopWorker("a", "50", 50)]
    assert only(gone(one, "a", 18), do.StartWorker) == []


def test_a_pinned_model_stays() -> None:
    three = core(a={"ttl": 5.0}, b={}, c={})
    two_ready(three)
    for name in ("a", "b"):
        three.handle(on.PinAsked(20, ROOT, 1, name, True))
    assert ends(three.handle(request("r1", model="c", now=21))) == [("r1", "does_not_fit")]
    assert only(three.handle(on.TimerFired(60, ("ttl", "a"))), do.StopWorker) == []
    assert only(three.handle(on.YieldAsked(61, ROOT, 2, None)), do.StopWorker) == []
    three.handle(on.PinAsked(70, ROOT, 1, "b", False))
    assert [stop.model for stop in only(three.handle(request("r2", model="c", now=71)), do.StopWorker)] == ["b"]


def test_memory_is_given_back_by_the_longest_idle_first() -> None:
    pair = core(a={}, b={})
    two_ready(pair)
    assert [stop.model for stop in only(pair.handle(on.YieldAsked(20, ROOT, 2, 10)), do.StopWorker)] == ["b"]
    assert [stop.model for stop in only(pair.handle(on.YieldAsked(21, ROOT, 2, None)), do.StopWorker)] == ["a"]


def test_a_hint_loads_if_nobody_busy_has_to_wait_for_that() -> None:
    three = core(a={}, b={}, c={})
    effects = three.handle(on.WantAsked(0, ALICE, 1, "a", 5.0))
    assert only(effects, do.StartWorker) == [do.StartWorker("a")]
    make_ready(three, "a", 2)
    three.handle(request("a1", model="a", now=3))
    three.handle(request("b1", model="b", now=4))
    make_ready(three, "b", 5, 51)
    effects = three.handle(on.WantAsked(6, ALICE, 1, "c", 5.0))
    assert only(effects, do.StartWorker) == [] == only(effects, do.StopWorker)
    value = only(effects, do.Send)[-1].message.value  # type: ignore[union-attr]
    assert (value["state"], value["why"]) == ("cold", "model 'a' is busy")
    assert "c" not in three.residents.wanted
    nobody = Caller(9, "uid:9", Rights(models=()))
    assert refusals(three.handle(on.WantAsked(7, nobody, 1, "c", 5.0))) == ["not_allowed"]


def test_a_model_comes_back_when_what_took_its_place_is_idle() -> None:
    pair = core(a={"need": 60, "comes_back": 10.0}, b={"need": 60})
    pair.handle(on.LoadAsked(0, ROOT, 0, "a", False))
    make_ready(pair, "a", 1)
    assert do.SetTimer(("back", "a"), 12.0) in pair.handle(request("b1", model="b", now=2))
    gone(pair, "a", 3)
    make_ready(pair, "b", 4, 51)
    assert only(pair.handle(on.TimerFired(12.0, ("back", "a"))), do.SetTimer), "b is busy: later"
    pair.handle(ended("b1", 13))
    assert pair.handle(on.TimerFired(14.0, ("back", "a"))) == [do.SetTimer(("back", "a"), 23.0)]
    assert [stop.model for stop in only(pair.handle(on.TimerFired(23.0, ("back", "a"))), do.StopWorker)] == ["b"]
    assert only(gone(pair, "b", 24), do.StartWorker) == [do.StartWorker("a")]


def test_the_second_load_is_told_how_long_it_will_take() -> None:
    one = core(a={})
    one.handle(on.LoadAsked(0, ROOT, 0, "a", False))
    make_ready(one, "a", 8)
    one.handle(on.UnloadAsked(10, ROOT, 0, "a", False, True))
    gone(one, "a", 11)
    effects = one.handle(request("r1", model="a", now=20))
    told = [e.message for e in only(effects, do.Send) if isinstance(e.message, Progress)]
    assert (told[-1].phase, told[-1].eta_ms) == ("loading", 8000)


def test_who_waits_is_told_of_no_model_that_it_may_not_see() -> None:
    one = core(a={}, b={}, c={})
    two_ready(one)
    stranger = Caller(9, "uid:9", Rights(models=("a", "c")))
    assert news(one.handle(request("r1", stranger, model="c", now=20)))[0] == ("evicting", "c: (another) makes room")
    two = core(a={}, b={}, c={})
    two_ready(two)
    told = two.handle(on.LoadAsked(20, stranger, 3, "c", wait=True))
    assert news(told)[0] == ("evicting", "c: (another) makes room")
    three = core(a={}, b={"pinned": True, "need": 80}, c={})
    three.handle(on.LoadAsked(1, ROOT, 0, "b", False))
    [refused] = only(three.handle(on.LoadAsked(2, stranger, 3, "c", wait=True)), do.Send)
    assert refused.message.code == "does_not_fit"  # type: ignore[union-attr]
    assert "(another)" in refused.message.message  # type: ignore[union-attr]
    assert "'b'" not in str(refused.message) and "(b)" not in str(refused.message)


def test_idle_models_give_others_the_memory_that_they_need() -> None:
    three = core(a={}, b={}, c={"need": 10, "pinned": True})
    two_ready(three)
    three.handle(on.LoadAsked(15, ROOT, 0, "c", False))
    make_ready(three, "c", 16, 52)
    effects = three.handle(on.MemoryShort(20, 30))
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["b"], "it costs least, and is enough"
    told = [one.value for one in only(effects, do.Publish) if one.topic == "daemon"]
    assert told == [{"what": "pressure", "bytes": 30}]
    (line,) = [one.text for one in only(effects, do.Log) if one.level == "warning"]
    assert line == "device 'gpu' has 30 B less for others than they are to have: b give back 40 B"
    assert three.handle(on.MemoryShort(25, 30)) == [], "it comes already"
    gone(three, "b", 26)
    three.handle(request("a1", model="a", now=27))
    helpless = three.handle(on.MemoryShort(30, 10))
    assert only(helpless, do.StopWorker) == [], "one is busy, one is pinned"
    assert "no model is idle" in only(helpless, do.Log)[0].text
    assert three.handle(on.MemoryShort(35, 10)) == [], "it is told once"
    three.handle(ended("a1", 36))
    assert [stop.model for stop in only(three.handle(on.MemoryShort(40, 10)), do.StopWorker)] == ["a"]


def test_under_pressure_models_sleep_where_they_can_and_go_out_when_the_machine_is_short_itself() -> None:
    two = core(a={}, b={})
    two_ready(two)
    for name in "ab":
        two.handle(on.SleepSeen(20, name, Sleep("", weights=30, left=2)))
    two.handle(on.HostSeen(20, 100))
    assert only(two.handle(on.MemoryShort(21, 10)), do.SleepWorker) == [do.SleepWorker("b", "51", 1)]
    assert two.handle(on.MemoryShort(22, 10)) == [], "it falls asleep"
    two.handle(on.WorkerAsleep(23, "b", 51, 1, 2))
    effects = two.handle(on.MemoryShort(24, 5, host=True))
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["b"], "its weights were in the machine's memory"
    gone(two, "b", 25)
    assert only(two.handle(on.MemoryShort(26, 5, host=True)), do.StopWorker) == [], "the other one is not there"


def two_gpus(**models: dict[str, Any]) -> Control:
    """Models of 40 bytes on two devices of 50; `wide` is spread over both."""
    made = [Model(name, terms=Terms(40, devices=2 if name == "wide" else 1), **more) for name, more in models.items()]
    return Control(made, "a", device=[Device("gpu 0", 50), Device("gpu 1", 50)])


def test_each_gpu_is_relieved_by_the_models_that_are_on_it() -> None:
    two = two_gpus(a={}, b={})
    two_ready(two)
    on_first = next(model.name for model in two.models.values() if model.on == (0,))
    on_second = next(model.name for model in two.models.values() if model.on == (1,))
    effects = two.handle(on.MemoryShort(20, 10, device=1))
    assert [stop.model for stop in only(effects, do.StopWorker)] == [on_second]
    (line,) = [one.text for one in only(effects, do.Log) if one.level == "warning"]
    assert line.startswith("device 'gpu 1' has 10 B less")
    assert two.handle(on.MemoryShort(21, 10, device=1)) == [], "it comes already"
    other = two.handle(on.MemoryShort(21, 10, device=0))
    assert [stop.model for stop in only(other, do.StopWorker)] == [on_first], "what the other gives is no use here"


def test_a_model_that_is_spread_gives_each_gpu_its_share() -> None:
    one = two_gpus(wide={})
    one.handle(on.LoadAsked(1, ROOT, 0, "wide", False))
    make_ready(one, "wide", 2, 50)
    effects = one.handle(on.MemoryShort(20, 10, device=1))
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["wide"]
    assert "wide give back 20 B" in only(effects, do.Log)[0].text


def held_by_others() -> Control:
    """Of 100 bytes others hold 70."""
    one = core(a={}, small={"need": 20})
    one.residents.memory_wait_s = 60.0
    one.handle(on.DeviceSeen(0, Device("gpu", 30, 100)))
    return one


def test_a_model_waits_for_memory_that_others_hold_and_says_so() -> None:
    one = held_by_others()
    effects = one.handle(request("r1", model="a", now=1))
    why = "a: other programs hold memory of gpu: it needs 40 B, and 30 B are left"
    assert (news(effects)[-1], ends(effects)) == (("queued", why), [])
    assert do.SetTimer(("place", ""), 61.0) in effects
    small = one.handle(request("r2", model="small", now=2))
    assert only(small, do.StartWorker) == [do.StartWorker("small")], "it does not stand in the way of others"
    make_ready(one, "small", 3, 51)
    one.handle(ended("r2", 4))
    effects = one.handle(on.DeviceSeen(10, Device("gpu", 50, 100)))
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["small"], "now it fits if the other one goes"
    assert only(gone(one, "small", 11), do.StartWorker) == [do.StartWorker("a")]


def test_it_waits_no_longer_than_is_configured() -> None:
    one = held_by_others()
    one.handle(request("r1", model="a", now=1))
    one.handle(on.LoadAsked(2, ROOT, 5, "a", True))
    assert ends(one.handle(on.TimerFired(60, ("place", "")))) == []
    effects = one.handle(on.TimerFired(61, ("place", "")))
    assert ends(effects) == [("r1", "does_not_fit")] and refusals(effects) == ["does_not_fit"]
    assert one.models["a"].waits is None, "nobody waits for it any more"
    assert "has waited for 60 s: other programs hold memory of gpu" in str(only(effects, do.CloseStream)[0].end)
    assert ends(one.handle(request("r2", model="a", now=62))) == [], "who asks again waits again"
    assert ends(one.handle(on.SettingsChanged(63, one.limits, {}, 30.0, 0.0))) == [("r2", "does_not_fit")]


def test_what_would_not_fit_without_others_either_is_refused_at_once() -> None:
    one = core(a={}, big={"need": 101})
    one.handle(on.DeviceSeen(0, Device("gpu", 30, 100)))
    effects = one.handle(request("r1", model="big", now=1))
    assert ends(effects) == [("r1", "does_not_fit")] and "gpu has 100 B" in str(only(effects, do.CloseStream)[0].end)
    one.handle(on.DeviceSeen(2, Device("gpu", 100, 100)))
    one.handle(on.LoadAsked(3, ROOT, 0, "a", False))
    make_ready(one, "a", 4)
    one.handle(on.PinAsked(5, ROOT, 0, "a", True))
    one.models["big"].terms = Terms(70)
    assert ends(one.handle(request("r2", model="big", now=6))) == [("r2", "does_not_fit")], "what is pinned stays"
