"""Who fits on a device, who goes for whom, who waits: the policy as values, and under any mixture of models."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ingled.core.eviction import LINGER_S, CheapestBack
from ingled.core.placement import Absent, Device, Evict, Fits, Never, Outlook, Resident, Terms, Wait

GPU = Device("gpu", 100)
POLICY = CheapestBack()


def there(name: str, need: int = 40, **fields: Any) -> Resident:
    terms = {key: fields.pop(key) for key in list(fields) if key in Terms.__dataclass_fields__}
    return Resident(name, Terms(need, **terms), **({"age": 1e6, "idle": 10.0} | fields))


def decide(need: int, *residents: Resident, device: Device = GPU, **terms: Any) -> object:
    return POLICY.decide("new", Terms(need, **terms), residents, device)


def test_what_fits_is_loaded_beside_the_others() -> None:
    assert decide(60) == Fits()
    assert decide(60, there("a")) == Fits()
    assert decide(10**9, there("a"), device=Device()) == Fits(), "without a known bound everything fits"


def test_the_victim_is_the_idle_one_that_it_costs_least_to_bring_back() -> None:
    dear, cheap = there("dear", reload_s=30, popularity=1.0), there("cheap", reload_s=2, popularity=1.0)
    assert decide(60, dear, cheap) == Evict(("cheap",))
    assert decide(60, there("often", popularity=9), there("rare", popularity=1)) == Evict(("rare",))
    assert decide(60, there("weighty", weight=5, popularity=1), there("plain", popularity=1)) == Evict(("plain",))
    assert decide(60, there("new", idle=1), there("old", idle=99)) == Evict(("old",)), "of two never asked, the older"


def test_no_more_go_than_are_needed() -> None:
    small = [there(f"s{i}", 20, popularity=1) for i in range(2)]
    assert decide(50, *small, there("large", 60, popularity=1)) == Evict(("large",)), "one dear enough instead of two"
    assert decide(20, *small, there("large", 60, popularity=9)) == Evict(("s0",))


def test_busy_pinned_and_fresh_models_stay() -> None:
    assert decide(70, there("a", busy=True)) == Wait("model 'a' is busy", None, ("a",))
    assert decide(70, there("a", min_resident=10, age=4)) == Wait("model 'a' has just been loaded", 6)
    assert isinstance(decide(70, there("a", pinned=True)), Never)
    assert decide(60, there("a", busy=True), there("b", popularity=9)) == Evict(("b",))


def test_a_busy_model_is_waited_for_no_longer_than_the_idle_one_would_load_that_goes_instead() -> None:
    seldom, often = there("seldom", busy=True, reload_s=9, popularity=1), there("often", reload_s=6, popularity=4)

    def after(waited: float) -> object:
        return POLICY.decide("new", Terms(60), [seldom, often], GPU, Outlook(waited))

    assert after(0) == Wait("model 'seldom' is busy", 6, ("seldom",))
    assert after(4) == Wait("model 'seldom' is busy", 2, ("seldom",))
    assert after(6) == Evict(("often",)) == decide(60, seldom, often)
    dear = there("dear", reload_s=600, popularity=4)
    cheap = POLICY.decide("new", Terms(60), [seldom, dear], GPU, Outlook(0))
    assert cheap == Wait("model 'seldom' is busy", LINGER_S, ("seldom",)), "nobody waits for longer than that"
    pinned = replace(seldom, pinned=True)
    assert POLICY.decide("new", Terms(60), [pinned, often], GPU, Outlook(0)) == Evict(("often",))


def test_of_victims_that_cost_alike_those_go_whose_room_the_next_one_can_use() -> None:
    residents = [there("long", 50, popularity=2.0), there("short", 30, popularity=1.9), there("rest", 20, popularity=9)]
    assert decide(30, *residents) == Evict(("short",)), "it costs a little less"
    next_one = Absent(Terms(20, reload_s=1), 5.0)
    outlook = Outlook(popularity=9, absent=lambda: (next_one,))
    assert POLICY.decide("new", Terms(30), residents, GPU, outlook) == Evict(("long",)), "both come, for one that goes"


def test_who_goes_among_many_is_decided_quickly_and_by_cost_for_its_size() -> None:
    many = [there(f"m{i}", 10, popularity=1 + i) for i in range(10)]
    assert decide(25, *many) == Evict(("m0", "m1", "m2"))


def test_nobody_goes_for_what_will_not_fit_anyway() -> None:
    never = decide(101, there("a"))
    assert isinstance(never, Never)
    assert never.why == "model 'new' needs 101 B, and gpu has 100 B for models"
    pinned = decide(70, there("a", pinned=True), there("b", 10))
    assert isinstance(pinned, Never)
    assert "pinned models (a) leave 60 B of 100 B" in pinned.why


def test_what_leaves_and_what_loads_is_waited_for() -> None:
    assert decide(70, there("a", leaving=True)) == Wait("model 'a' gives its memory back")
    assert decide(50, there("a", leaving=True)) == Fits(), "there is room beside it"
    assert decide(10, there("a", moving="is being loaded", busy=True)) == Wait("model 'a' is being loaded")


def test_groups_and_exclusive_models_put_others_out_though_there_is_room() -> None:
    assert decide(10, there("a", 10, group="g"), there("b", 10), group="g") == Evict(("a",))
    assert decide(10, there("a", 10, busy=True, group="g"), group="g") == Wait("model 'a' is busy", None, ("a",))
    assert decide(10, there("a", 10), there("b", 10), exclusive=True) == Evict(("a", "b"))
    assert decide(10, there("a", 10, exclusive=True), device=Device()) == Evict(("a",))


residents = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        terms=st.builds(
            Terms,
            need=st.integers(0, 60),
            reload_s=st.floats(0, 60),
            weight=st.floats(0.1, 9),
            min_resident=st.sampled_from([0.0, 5.0]),
            group=st.sampled_from([None, "g", "h"]),
            exclusive=st.booleans(),
        ),
        busy=st.booleans(),
        leaving=st.booleans(),
        pinned=st.booleans(),
        idle=st.floats(0, 1e5),
        popularity=st.floats(0, 1),
        age=st.floats(0, 10),
    ),
    max_size=13,
)


@given(st.integers(0, 150), residents, st.sampled_from([None, "g"]), st.booleans(), st.sampled_from([None, 100]))
def test_whatever_is_there_the_promises_hold(
    need: int, present: list[Resident], group: str | None, exclusive: bool, budget: int | None
) -> None:
    terms = Terms(need, group=group, exclusive=exclusive)
    decision = POLICY.decide("new", terms, present, Device("gpu", budget))
    match decision:
        case Fits():
            assert budget is None or need + sum(one.terms.need for one in present) <= budget
        case Evict(names):
            gone = [one for one in present if one.name in names]
            assert names and len(gone) == len(names)
            assert not any(one.busy or one.pinned or one.leaving or one.age < one.terms.min_resident for one in gone)
            stay = [one for one in present if one.name not in names and not one.leaving]
            assert budget is None or need + sum(one.terms.need for one in stay) <= budget
            assert not any(one.terms.exclusive or exclusive or (group and one.terms.group == group) for one in stay)
        case Never():
            pinned = [one for one in present if one.pinned]
            full = budget is not None and need + sum(one.terms.need for one in pinned if not one.leaving) > budget
            assert full or any(one.terms.exclusive or exclusive or one.terms.group == group for one in pinned)
        case Wait(why, until, blockers):
            assert why and (until is None or until > 0)
            held = {one.name for one in present if one.busy}
            assert set(blockers) <= held
            assert any(one.busy or one.leaving or one.pinned or one.age < one.terms.min_resident for one in present)
