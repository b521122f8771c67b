"""Several devices: which of them a model goes to, on machines as they are, and that none is ever given too much."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from ingled.core.eviction import CheapestBack
from ingled.core.placement import Device, Evict, Fits, Never, Resident, Terms, Wait
from ingled.core.topology import Placed, place, share

GIB = 1 << 30


def gpus(*sizes: int) -> list[Device]:
    return [Device(f"gpu{index}", size * GIB) for index, size in enumerate(sizes)]


def there(name: str, need: int, *on: int, **more: object) -> Resident:
    terms = {key: more.pop(key) for key in ("group", "exclusive", "min_resident", "weight") if key in more}
    spread = Terms(need * GIB, devices=len(on), **terms)  # type: ignore[arg-type]
    return Resident(name, spread, on, **more)  # type: ignore[arg-type]


def new(need: int, devices: list[Device], *residents: Resident, over: int = 1, **terms: object) -> Placed:
    wanted = Terms(need * GIB, devices=over, **terms)  # type: ignore[arg-type]
    return place(CheapestBack(), "new", wanted, residents, devices)


def test_two_equal_gpus_are_filled_one_after_the_other() -> None:
    two = gpus(80, 80)
    assert new(30, two) == Placed(Fits(), (0,))
    assert new(30, two, there("a", 30, 0)) == Placed(Fits(), (0,)), "what fits beside others leaves the other one free"
    assert new(60, two, there("a", 30, 0)) == Placed(Fits(), (1,))
    assert new(120, two, over=2) == Placed(Fits(), (0, 1))
    assert isinstance(new(120, two).decision, Never), "no single one holds it"


def test_a_small_model_goes_to_the_small_gpu() -> None:
    mixed = gpus(80, 24, 80, 16)
    assert new(10, mixed).on == (3,)
    assert new(20, mixed).on == (1,)
    assert new(40, mixed).on in ((0,), (2,))
    assert new(150, mixed, over=2) == Placed(Fits(), (0, 2)), "halves of 75 go to the two large ones"
    assert isinstance(new(150, mixed, over=4).decision, Never), "a quarter of it is more than the smallest has"


def test_eight_gpus_hold_four_times_two() -> None:
    eight = gpus(*[80] * 8)
    residents: list[Resident] = []
    for index in range(4):
        placed = new(140, eight, *residents, over=2)
        assert isinstance(placed.decision, Fits)
        residents.append(there(f"m{index}", 140, *placed.on))
    assert sorted(one for resident in residents for one in resident.on) == list(range(8))
    fifth = new(
        140, eight, *residents[:1], *(there(f"m{i}", 140, *residents[i].on, busy=True) for i in (1, 2, 3)), over=2
    )
    assert fifth == Placed(Evict(("m0",)), residents[0].on)


def test_who_goes_is_cheapest_over_all_devices() -> None:
    two = gpus(80, 80)
    dear, cheap = there("dear", 70, 0, popularity=9.0), there("cheap", 70, 1, popularity=1.0)
    assert new(60, two, dear, cheap) == Placed(Evict(("cheap",)), (1,))
    wide = there("wide", 140, 0, 1, popularity=1.0)
    assert new(140, two, wide, over=2) == Placed(Evict(("wide",)), (0, 1)), "it goes once, from both"
    assert new(140, two, dear, cheap, over=2) == Placed(Evict(("dear", "cheap")), (0, 1))


def test_one_waits_only_where_everybody_is_busy() -> None:
    two = gpus(80, 80)
    busy, idle = there("busy", 70, 0, busy=True), there("idle", 70, 1)
    assert new(60, two, busy, idle) == Placed(Evict(("idle",)), (1,))
    waits = new(140, two, busy, idle, over=2).decision
    assert isinstance(waits, Wait) and waits.blockers == ("busy",)
    loading = there("loading", 20, 0, busy=True, moving="is being loaded")
    assert new(30, two, loading) == Placed(Fits(), (1,)), "of one device, one load at a time; of two, two"


def test_a_group_has_one_model_wherever_it_is() -> None:
    two = gpus(80, 80)
    assert new(10, two, there("a", 10, 0, group="g"), group="g").decision == Evict(("a",))
    assert new(10, two, there("a", 10, 0), exclusive=True) == Placed(Fits(), (1,)), "alone on its device"


def test_more_devices_than_there_are_is_never() -> None:
    never = new(10, gpus(80), over=2).decision
    assert isinstance(never, Never) and "2 devices, and there is 1" in never.why


def test_where_there_is_one_place_all_shares_are_there() -> None:
    whole = [Device("memory", 80 * GIB, whole=True)]
    assert new(60, whole, over=4) == Placed(Fits(), (0,))
    assert new(60, whole, there("a", 60, 0), over=2) == Placed(Evict(("a",)), (0,))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Device], list[Resident], Terms]:
    """A machine that is not given too much, and a model that is wanted."""
    devices = gpus(*draw(st.lists(st.sampled_from([8, 16, 24, 80]), min_size=1, max_size=8)))
    left = [device.budget or 0 for device in devices]
    residents = []
    for index in range(draw(st.integers(0, 7))):
        on = tuple(sorted(draw(st.sets(st.integers(0, len(devices) - 1), min_size=1, max_size=min(4, len(devices))))))
        each = draw(st.integers(0, 40)) * GIB
        if all(left[at] >= each for at in on):
            for at in on:
                left[at] -= each
            flags = {flag: draw(st.booleans()) for flag in ("busy", "pinned")}
            asked = draw(st.floats(0, 5))
            residents.append(
                Resident(f"m{index}", Terms(each * len(on), devices=len(on)), on, popularity=asked, **flags)
            )
    over = draw(st.integers(1, min(4, len(devices))))
    return devices, residents, Terms(draw(st.integers(1, 90)) * GIB * over, devices=over)


def _fits(devices: list[Device], residents: list[Resident], terms: Terms) -> bool:
    """Return whether some set of devices has room, by trying all of them."""
    used = [sum(share(one.terms.need, len(one.on)) for one in residents if at in one.on) for at in range(len(devices))]
    return any(
        all(used[at] + share(terms.need, terms.devices) <= (devices[at].budget or 0) for at in on)
        for on in combinations(range(len(devices)), terms.devices)
    )


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_no_device_is_given_too_much_and_room_is_found_where_there_is_some(
    world: tuple[list[Device], list[Resident], Terms],
) -> None:
    devices, residents, terms = world
    placed = place(CheapestBack(), "new", terms, residents, devices)
    gone: tuple[str, ...] = ()
    match placed.decision:
        case Fits():
            assert _fits(devices, residents, terms)
        case Evict(models):
            gone = models
            assert not _fits(devices, residents, terms), "nobody goes where there is room"
            assert not any(one.busy or one.pinned for one in residents if one.name in gone)
        case Wait(blockers=blockers):
            assert blockers
            assert not _fits(devices, [one for one in residents if one.busy or one.pinned], terms)
            assert _fits(devices, [one for one in residents if one.pinned], terms), "when the busy ones are done"
        case Never():
            assert not _fits(devices, [one for one in residents if one.pinned], terms)
    if isinstance(placed.decision, Fits | Evict):
        assert len(set(placed.on)) == terms.devices
        stay = [one for one in residents if one.name not in gone]
        for at in placed.on:
            used = sum(share(one.terms.need, len(one.on)) for one in stay if at in one.on)
            assert used + share(terms.need, terms.devices) <= (devices[at].budget or 0)
