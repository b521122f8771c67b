"""Adapters live in the worker of their base: loaded into it, busy with it, gone with it."""

from typing import Any

from ingle.wire.schema import Failed, Result
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.control import Control
from ingled.core.placement import Device, Terms
from ingled.core.residency import Model, State

from tests.core.driven import BOB, ROOT, ended, make_ready, only, request


def core(**more: Any) -> Control:
    """A base with two adapters, and another model for which there is no room beside it."""
    models = [
        Model("base", terms=Terms(need=60)),
        Model("one", adapts="base"),
        Model("two", adapts="base"),
        Model("other", terms=Terms(need=60)),
    ]
    return Control(models, "base", device=Device("gpu", 100), **more)


def states(core: Control) -> dict[str, str]:
    return {name: model.state.value for name, model in core.models.items()}


def adapted(core: Control, name: str, now: float, pid: int = 50) -> list[do.Effect]:
    return core.handle(on.AdapterReady(now, name, pid))


def with_one_ready() -> Control:
    found = core()
    found.handle(request("r0", model="one", now=1))
    make_ready(found, "base", 2, 50)
    adapted(found, "one", 3)
    found.handle(ended("r0", 4))
    return found


def runs(effects: list[do.Effect]) -> list[str]:
    return [run.record.id for run in only(effects, do.RunRequest)]


def ends(effects: list[do.Effect], id: str) -> list[Any]:
    closed = only(effects, do.CloseStream)
    return [one.end for one in closed if one.id == id]


def refusals(effects: list[do.Effect]) -> list[Failed]:
    return [one.message for one in only(effects, do.Send) if isinstance(one.message, Failed)]


def test_asking_an_adapter_loads_its_base_then_the_adapter_and_then_it_answers() -> None:
    one = core()
    assert only(one.handle(request("r1", model="one", now=1)), do.StartWorker) == [do.StartWorker("base")]
    effects = make_ready(one, "base", 2, 50)
    assert only(effects, do.AddAdapter) == [do.AddAdapter("50", "one")] and runs(effects) == []
    assert states(one) == {"base": "ready", "one": "loading", "two": "cold", "other": "cold"}
    assert runs(adapted(one, "one", 3)) == ["r1"]
    assert one.models["one"].worker == "50"
    assert runs(one.handle(request("r2", model="one", now=4))) == ["r2"], "and the next one at once"


def test_what_waits_for_the_base_is_told_to_who_waits_for_the_adapter() -> None:
    one = core()
    one.handle(request("r1", model="one", now=1))
    one.handle(on.WorkerForked(1.1, "base", 50))
    one.handle(on.WorkerAttached(1.2, "base", "50", 50))
    (told,) = [e.message for e in only(one.handle(on.WorkerLoading(1.3, "base", 50, "weights", 40)), do.Send)]
    assert (told.id, told.phase, told.percent, told.what) == ("r1", "loading", 40, "base: weights")  # type: ignore[union-attr]


def test_an_adapter_that_cannot_be_loaded_fails_alone_and_says_why() -> None:
    one = core()
    one.handle(request("r1", model="one", now=1))
    one.handle(request("r2", model="base", now=1))
    assert runs(make_ready(one, "base", 2, 50)) == ["r2"]
    effects = one.handle(on.AdapterFailed(3, "one", 50, "no such folder"))
    (end,) = ends(effects, "r1")
    assert isinstance(end, Failed) and (end.code, end.fault) == ("load_failed", "model")
    assert "no such folder" in end.message
    assert (states(one)["base"], states(one)["one"]) == ("ready", "failed")
    assert [one.code for one in refusals(one.handle(request("r3", model="one", now=3.1)))] == ["load_failed"]
    later = one.handle(request("r4", model="one", now=99))
    assert only(later, do.AddAdapter), "after a pause it is tried again"


def test_a_base_is_not_put_out_while_an_adapter_runs_or_loads() -> None:
    one = with_one_ready()
    one.handle(request("r1", model="one", now=10))
    assert only(one.handle(request("x", model="other", now=20)), do.StopWorker) == []
    effects = one.handle(ended("r1", 21))
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["base"], "idle, it goes, and its adapter with it"
    assert states(one) == {"base": "stopping", "one": "cold", "two": "cold", "other": "cold"}
    loads = with_one_ready()
    loads.handle(request("r2", model="two", now=10))
    assert states(loads)["two"] == "loading"
    assert only(loads.handle(request("x", model="other", now=11)), do.StopWorker) == []


def test_use_of_an_adapter_is_use_of_its_base() -> None:
    one = with_one_ready()
    assert one.models["base"].idle(10) == 6
    one.handle(request("r1", model="one", now=20))
    assert one.models["base"].idle(20) == 0 and set(one.residents.uses.known) == {"base"}


def test_unloading_an_adapter_leaves_the_base_and_waits_until_the_worker_says_so() -> None:
    one = with_one_ready()
    effects = one.handle(on.UnloadAsked(10, ROOT, 7, "one", False, True))
    assert only(effects, do.DropAdapter) == [do.DropAdapter("50", "one")] and not only(effects, do.StopWorker)
    assert (states(one)["base"], states(one)["one"]) == ("ready", "stopping")
    assert adapted(one, "one", 10.1) == [], "an answer that was under way"
    again = one.handle(request("r1", model="one", now=11))
    assert not only(again, do.AddAdapter)
    effects = one.handle(on.AdapterGone(12, "one", 50))
    assert only(effects, do.AddAdapter) == [do.AddAdapter("50", "one")], "somebody has asked meanwhile"
    assert runs(adapted(one, "one", 13)) == ["r1"]


def test_unloading_the_base_counts_requests_of_adapters_and_takes_them_down_by_force() -> None:
    one = with_one_ready()
    one.handle(request("r1", model="one", now=10))
    (refusal,) = refusals(one.handle(on.UnloadAsked(11, ROOT, 7, "base", False, True)))
    assert refusal.code == "conflict" and "1 of them for its adapters" in refusal.message
    effects = one.handle(on.UnloadAsked(12, ROOT, 8, "base", True, True))
    assert [cut.id for cut in only(effects, do.CutStream)] == ["r1"]
    assert [stop.model for stop in only(effects, do.StopWorker)] == ["base"]
    assert (states(one)["base"], states(one)["one"]) == ("stopping", "cold")
    assert one.handle(on.AdapterGone(13, "one", 50)) == []


def test_after_the_death_of_the_worker_an_adapters_request_goes_on_in_the_next() -> None:
    one = with_one_ready()
    one.handle(request("r1", model="one", now=10))
    one.handle(on.WorkerGone(11, "base", 50, "killed"))
    assert (states(one)["base"], states(one)["one"]) == ("cold", "cold")
    effects = one.handle(on.TimerFired(11, ("restart", "base")))
    assert only(effects, do.StartWorker) == [do.StartWorker("base")]
    effects = make_ready(one, "base", 12, 60)
    assert only(effects, do.AddAdapter) == [do.AddAdapter("60", "one")]
    assert runs(adapted(one, "one", 13, 60)) == ["r1"]
    assert one.requests.records["r1"].resumed == 1


def test_a_base_that_cannot_be_loaded_fails_those_who_wait_for_its_adapters() -> None:
    one = core()
    one.handle(request("r1", model="one", now=1))
    one.handle(on.LoadAsked(1, ROOT, 7, "two", True))
    one.handle(on.WorkerForked(1.1, "base", 50))
    one.handle(on.WorkerAttached(1.2, "base", "50", 50))
    effects = one.handle(on.LoadFailed(2, "base", 50, "no config.json", ()))
    (end,) = ends(effects, "r1")
    assert isinstance(end, Failed) and end.code == "load_failed" and "no config.json" in end.message
    assert [refusal.code for refusal in refusals(effects)] == ["load_failed"]
    assert states(one) == {"base": "failed", "one": "failed", "two": "failed", "other": "cold"}


def test_a_base_that_does_not_fit_refuses_those_who_wait_for_its_adapters() -> None:
    one = core()
    one.models["base"].terms = Terms(need=600)
    effects = one.handle(request("r1", model="one", now=1))
    (end,) = ends(effects, "r1")
    assert isinstance(end, Failed) and end.code == "does_not_fit"
    assert states(one)["one"] == "cold"


def test_a_new_daemon_learns_what_its_workers_have() -> None:
    one = core()
    one.handle(on.WorkerAttached(1, "base", "50", 50))
    assert adapted(one, "one", 1.5) == [], "the base comes first"
    one.handle(on.WorkerReady(2, "base", 50, 4))
    adapted(one, "one", 2.5)
    assert (states(one)["base"], states(one)["one"]) == ("ready", "ready")
    assert runs(one.handle(request("r1", model="one", now=3))) == ["r1"]


def test_base_and_adapters_share_the_places_of_one_engine() -> None:
    one = core()
    one.handle(on.WorkerAttached(1, "base", "50", 50))
    one.handle(on.WorkerReady(2, "base", 50, 2))
    adapted(one, "one", 2.5)
    ids = [f"r{index}" for index in range(3)]
    given = [
        runs(one.handle(request(id, model=model, now=3))) for id, model in zip(ids, ("base", "one", "one"), strict=True)
    ]
    assert given == [["r0"], ["r1"], ["r2"]], "as many as there are places, and one ahead"
    assert runs(one.handle(request("r3", model="one", now=4))) == []
    assert runs(one.handle(request("r4", caller=BOB, model="base", now=4))) == []
    effects = one.handle(ended("r0", 5))
    assert len(runs(effects)) + len(only(effects, do.BeginRequest)) == 1


def test_an_adapter_is_not_pinned_but_its_base_is() -> None:
    one = with_one_ready()
    (refusal,) = refusals(one.handle(on.PinAsked(10, ROOT, 7, "one", True)))
    assert refusal.code == "unsupported" and "base" in refusal.hint


def test_a_hint_for_an_adapter_is_one_for_its_base() -> None:
    one = core()
    effects = one.handle(on.WantAsked(1, ROOT, 7, "one", 5.0))
    assert only(effects, do.StartWorker) == [do.StartWorker("base")]
    (value,) = [e.message.value for e in only(effects, do.Send) if isinstance(e.message, Result)]
    assert value["why"] is None
    assert only(make_ready(one, "base", 2, 50), do.AddAdapter) == [do.AddAdapter("50", "one")]
    adapted(one, "one", 3)
    assert one.models["one"].state is State.READY


def test_a_base_and_its_adapters_take_turns_at_the_places_that_they_share() -> None:
    """One model with always somebody waiting does not keep the others of its family out."""
    one = with_one_ready()
    one.models["base"].places = one.models["one"].places = 1
    for name in ("base", "one"):
        one.requests.turns[name].open(5, 1)
    for number in range(8):
        one.handle(request(f"b{number}", model="base", now=5))
    for number in range(2):
        one.handle(request(f"a{number}", BOB, model="one", now=6))
    order = sorted(record.id for record in one.requests.running("base"))
    now = 7.0
    while running := [*one.requests.running("base"), *one.requests.running("one")]:
        effects = one.handle(ended(running[0].id, now := now + 1))
        order += [begun.id for begun in only(effects, do.BeginRequest)]
    assert sorted(order) == sorted([f"b{number}" for number in range(8)] + ["a0", "a1"])
    assert order.index("a0") < order.index("b3") and order.index("a1") < order.index("b4"), order


def test_an_adapter_that_is_wanted_and_goes_with_the_configuration_is_forgotten() -> None:
    one = core()
    one.handle(on.LoadAsked(1.0, ROOT, 1, "one", wait=False))
    one.handle(on.ModelsChanged(2.0, (), {"base": (), "two": (), "other": ()}, "base"))
    one.handle(on.WorkerForked(3.0, "base", 50))
    one.handle(on.WorkerAttached(3.0, "base", "50", 50))
    one.handle(on.WorkerReady(4.0, "base", 50))
    assert states(one) == {"base": "ready", "two": "cold", "other": "cold"}


def test_a_base_and_its_adapters_go_with_the_configuration_at_once() -> None:
    gone = core().handle(on.ModelsChanged(1.0, (), {"other": ()}, "other"))
    assert [e.model for e in only(gone, do.ForgetModel)] == ["one", "two", "base"]
