"""What a model takes, by what is known best, and what would make it fit."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from ingled.core.need import BITS, SHORT, Measured, Need, Parts, changes, known
from ingled.core.placement import Device, Resident, Terms

GIB = 1 << 30
PARTS = Parts(weights=8 * GIB, kv_cache=4 * GIB, activations=GIB, process=GIB)
PLANNED = Need(PARTS.total, "estimated", PARTS, token_bytes=1 << 17, context=32768)


def resident(name: str, gib: int, **more: bool) -> Resident:
    return Resident(name, Terms(gib * GIB), **more)


def test_what_was_measured_comes_before_what_was_planned() -> None:
    found = known(PLANNED, Measured(taken=14 * GIB, kv_cache=4 * GIB, most=14 * GIB))
    assert (found.source, found.bytes) == ("measured", 15 * GIB)
    assert found.parts == Parts(8 * GIB, 4 * GIB, GIB, 2 * GIB)
    grown = known(PLANNED, Measured(taken=14 * GIB, kv_cache=4 * GIB, most=17 * GIB))
    assert (grown.bytes, grown.parts.activations) == (17 * GIB, 3 * GIB)


def test_who_has_run_its_largest_batch_is_believed_though_it_took_less_than_was_guessed() -> None:
    before = known(PLANNED, Measured(13 * GIB, 4 * GIB, 13 * GIB + GIB // 2))
    after = known(PLANNED, Measured(13 * GIB, 4 * GIB, 13 * GIB + GIB // 2, full=True))
    assert (before.parts.activations, after.parts.activations) == (GIB, GIB // 2)
    assert after.bytes == 13 * GIB + GIB // 2


def test_who_ran_out_of_memory_is_given_more_than_it_had_then() -> None:
    for planned, measured in (
        (PLANNED, Measured(0, 0, 0, short=14 * GIB)),
        (PLANNED, Measured(14 * GIB, 4 * GIB, 14 * GIB, full=True, short=14 * GIB)),
        (Need(), Measured(0, 0, 0, short=14 * GIB)),
    ):
        found = known(planned, measured)
        assert (found.bytes, found.source) == (int(14 * GIB * SHORT), "measured")
        assert found.bytes == found.parts.total
    enough = known(PLANNED, Measured(13 * GIB, 4 * GIB, 15 * GIB, full=True, short=14 * GIB))
    assert enough.bytes == 15 * GIB, "it is known to need more than that"
    assert known(PLANNED, Measured(0, 0, 0, short=9 * GIB), 5 * GIB).bytes == 5 * GIB, "the profile says so"


def test_what_is_configured_comes_before_all() -> None:
    assert known(PLANNED, Measured(GIB, 0, GIB), 5 * GIB).bytes == 5 * GIB


def test_a_load_without_a_measurement_teaches_nothing() -> None:
    assert known(PLANNED, Measured(0, 0, 0)) is PLANNED


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_measured_parts_add_up_whatever_was_measured(taken: int, kv_cache: int, most: int) -> None:
    found = known(PLANNED, Measured(taken, min(kv_cache, taken), most))
    assert found.bytes == found.parts.total >= taken
    assert min(found.parts.weights, found.parts.process, found.parts.activations) >= 0


def test_a_shorter_context_or_a_smaller_cache_that_fits_is_named() -> None:
    found = {one.what: one for one in changes(PLANNED, Device("memory", 12 * GIB), [])}
    assert found["context"].value == 16384 and found["context"].need == 12 * GIB
    assert "kv_cache" not in found  # 2 GiB do not hold one answer of 4 GiB
    assert "context" not in {
        one.what for one in changes(replace(PLANNED, least_cache=4 * GIB), Device("memory", 12 * GIB), [])
    }
    smaller = replace(PLANNED, token_bytes=1 << 15)
    found = {one.what: one for one in changes(smaller, Device("memory", 12 * GIB), [])}
    assert found["kv_cache"].value == "2048MiB"


def test_fewer_bytes_for_a_weight_are_named() -> None:
    wide = replace(PLANNED, width=4)
    found = {one.what: one for one in changes(wide, Device("memory", 8 * GIB), [])}
    assert found["dtype"].need == 8 * GIB and found["dtype"].value == "bfloat16"
    kept = {one.what: one for one in changes(replace(wide, least_cache=3 * GIB), Device("memory", 9 * GIB), [])}
    assert kept["dtype"].need == 9 * GIB, "the cache becomes no smaller than it is to be at least"
    found = {one.what: one for one in changes(PLANNED, Device("memory", 9 * GIB), [])}
    assert (found["quantization"].value, found["quantization"].need) == ("4 bit", 6 * GIB + int(8 * GIB * BITS[4] / 2))
    quantized = replace(PLANNED, quantized=True)
    assert "quantization" not in {one.what for one in changes(quantized, Device("memory", 10 * GIB), [])}


def test_other_residents_that_would_have_to_go_are_named() -> None:
    there = [resident("a", 2, pinned=True), resident("b", 6, busy=True), resident("c", 1)]
    found = {one.what: one for one in changes(PLANNED, Device("memory", 18 * GIB), there)}
    assert found["unload"].value == ("b",)
    assert "unload" not in {one.what for one in changes(PLANNED, Device("memory", 12 * GIB), there)}
    assert changes(PLANNED, Device("memory", None), there) == []


@given(
    st.integers(0, 64), st.integers(0, 16), st.integers(0, 4), st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=4), st.sampled_from([2, 4]),
)  # fmt: skip
def test_whatever_is_proposed_fits(
    weights: int, cache: int, rest: int, budget: int, others: list[tuple[int, bool]], width: int
) -> None:
    parts = Parts(weights * GIB, cache * GIB, rest * GIB, GIB)
    need = Need(parts.total, "estimated", parts, 1 << 17, 32768, width=width)
    there = [resident(str(i), gib, pinned=pinned) for i, (gib, pinned) in enumerate(others)]
    for change in changes(need, Device("memory", budget * GIB), there):
        gone = change.value if isinstance(change.value, tuple) else [one.name for one in there if not one.pinned]
        left = sum(one.terms.need for one in there if one.name not in gone)
        assert change.need + left <= budget * GIB
