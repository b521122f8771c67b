"""Models that come, change and go while the daemon runs, as lists of events and the effects that they cause."""

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.control import Control
from ingled.core.placement import Terms
from ingled.core.residency import Model, State

from tests.core.driven import ALICE, ROOT, control, ended, ends, make_ready, only, refusals, request


def have(core: Control, now: float, *models: Model, also: tuple[str, ...] = ()) -> list[do.Effect]:
    """Have these, and beside them others as they are; the first is the default."""
    names = {model.name: model.aliases for model in models} | {name: core.models[name].aliases for name in also}
    return core.handle(on.ModelsChanged(now, models, names, next(iter(names))))


def test_a_new_model_is_there_at_once_and_may_be_the_default() -> None:
    core = control()
    assert have(core, 1.0, Model("ash", ("a",)), also=("ember", "coal")) == []
    assert only(core.handle(request(model=None)), do.StartWorker) == [do.StartWorker("ash")]
    assert refusals(core.handle(request("r2", model="e"))) == []


def test_a_model_that_goes_and_has_nothing_is_forgotten() -> None:
    core = control()
    make_ready_after_load(core, "coal")
    effects = have(core, 3.0, also=("ember",))
    assert only(effects, do.StopWorker) == [do.StopWorker("coal", "50", 50)]
    assert refusals(core.handle(request("r2", model="coal"))) == ["no_such_model"]
    effects = core.handle(on.WorkerGone(4.0, "coal", 50, "exit status 0"))
    assert only(effects, do.ForgetModel) == [do.ForgetModel("coal")]
    assert set(core.models) == {"ember"}
    late: list[on.Event] = [
        on.TimerFired(5.0, ("ttl", "coal")),
        on.TimerFired(5.0, ("restart", "coal")),
        on.NeedSeen(5.0, "coal", 7, None),
        on.WorkerReady(5.0, "coal", 50),
        on.WorkerGone(5.0, "coal", 50, "again"),
    ]
    for event in late:
        assert core.handle(event) == []
    assert core.handle(on.WorkerForked(5.0, "coal", 51)) == [do.StopWorker("coal", None, 51)]


def make_ready_after_load(core: Control, name: str) -> None:
    core.handle(on.LoadAsked(1.0, ROOT, 1, name, wait=False))
    make_ready(core, name)


def test_a_model_that_goes_ends_what_it_has_first() -> None:
    core = control()
    core.handle(request("r1", model="coal"))
    make_ready(core, "coal")
    core.handle(on.LoadAsked(2.5, ROOT, 5, "ember", wait=True))
    effects = have(core, 3.0, Model("ash"))
    assert only(effects, do.StopWorker) == [], "one has a request, and somebody waits for the other"
    assert ends(core.handle(ended("r1", 4.0))) == [("r1", "done")]
    assert core.models["coal"].state is State.STOPPING
    effects = make_ready(core, "ember", 5.0, 60)
    assert only(effects, do.StopWorker) == [do.StopWorker("ember", "60", 60)]
    assert any(isinstance(send.message.ref, int) and send.message.ref == 5 for send in only(effects, do.Send))  # type: ignore[union-attr]


def test_a_model_that_waits_to_be_loaded_and_goes_still_serves_who_waits() -> None:
    core = control()
    core.handle(request("r1", model="coal"))
    have(core, 2.0, also=("ember",))
    assert [run.record.id for run in only(make_ready(core, "coal", 3.0), do.RunRequest)] == ["r1"]
    core.handle(ended("r1", 4.0))
    assert core.models["coal"].state is State.STOPPING


def test_a_model_that_is_named_again_before_it_has_gone_stays() -> None:
    core = control()
    make_ready_after_load(core, "coal")
    core.handle(request("r1", model="coal", now=2.5))
    have(core, 3.0, also=("ember",))
    have(core, 3.5, Model("coal"), also=("ember",))
    core.handle(ended("r1", 4.0))
    assert core.models["coal"].state is State.READY
    assert refusals(core.handle(request("r2", model="coal", now=5.0))) == []


def test_what_a_profile_says_of_residency_holds_at_once_and_the_rest_at_the_next_load() -> None:
    core = control()
    make_ready_after_load(core, "coal")
    core.handle(on.NeedSeen(2.5, "coal", 40, 3.0))
    new = Model("coal", ("c",), "mit", "v2", terms=Terms(weight=4.0), ttl=9.0, pin=True, pinned=True)
    effects = have(core, 3.0, new, also=("ember",))
    assert only(effects, do.SetTimer) == [do.SetTimer(("ttl", "coal"), 12.0)]
    coal = core.models["coal"]
    assert (coal.ttl, coal.pinned, coal.terms.weight, coal.terms.need) == (9.0, True, 4.0, 40)
    assert (coal.license, coal.revision) == (None, None), "of what runs"
    core.handle(on.UnloadAsked(4.0, ROOT, 2, "c", force=False, wait=True))
    core.handle(on.WorkerGone(5.0, "coal", 50, "exit status 0"))
    assert (coal.license, coal.revision) == ("mit", "v2")
    core.handle(on.PinAsked(6.0, ROOT, 3, "coal", pinned=False))
    have(core, 7.0, Model("coal", pin=True, pinned=True), also=("ember",))
    assert not coal.pinned, "whoever unpinned it is not overruled by a change of something else"


def test_a_failed_model_is_tried_again_when_its_profile_changes() -> None:
    core = control()
    core.handle(on.LoadAsked(1.0, ALICE, 1, "coal", wait=False))
    core.handle(on.WorkerForked(1.1, "coal", 50))
    core.handle(on.WorkerAttached(1.2, "coal", "50", 50))
    core.handle(on.LoadFailed(1.3, "coal", 50, "bad", ()))
    assert refusals(core.handle(request("r1", model="coal", now=1.4))) == ["load_failed"]
    have(core, 1.5, Model("coal"), also=("ember",))
    assert only(core.handle(request("r2", model="coal", now=1.6)), do.StartWorker) == [do.StartWorker("coal")]
