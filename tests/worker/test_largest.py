"""The prompts of a largest batch: as many as may run at once, and more than a step computes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingled.worker.largest import ANSWER, Pace, sizes


@pytest.mark.parametrize(
    ("sequences", "batch", "context", "cached", "size"),
    [
        (16, 2048, 8192, 0, 257),
        (4, 4096, 1024, 0, 1016),  # no longer than the context
        (2, 512, 4096, 0, 513),
        (8, 1024, 136, 0, 127),  # eight prompts of 128 would end with the step
        (8, 2048, 4096, 1024, 104),  # seven blocks of 16 for each, and its answer in them
    ],
)
def test_they_fill_two_steps_where_context_and_cache_allow(
    sequences: int, batch: int, context: int, cached: int, size: int
) -> None:
    assert sizes(sequences, batch, context, cached, 16) == [size] * sequences


def test_where_not_even_one_fits_there_are_none() -> None:
    assert sizes(4, 2048, ANSWER, 0, 16) == []
    assert sizes(4, 2048, 4096, 16, 16) == []


@given(
    sequences=st.integers(1, 256),
    batch=st.integers(256, 8192),
    context=st.integers(1, 8192),
    cached=st.integers(0, 1 << 16),
    block=st.sampled_from([16, 128]),
)
def test_they_always_fit(sequences: int, batch: int, context: int, cached: int, block: int) -> None:
    found = sizes(sequences, batch, context, cached, block)
    assert all(0 < one <= context - ANSWER for one in found) and len(found) <= sequences
    if cached:
        taken = sum(-(-(one + ANSWER) // block) for one in found)
        assert (taken + 1) * block <= cached or not found


def test_how_far_it_is_goes_by_what_it_is_expected_to_take() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.percent() == 0
    pace.expect(20.0)
    seen = []
    for second in (100.0, 105.0, 119.9, 300.0):
        now[0] = second
        seen.append(pace.percent())
    assert seen == [0, 25, 99, 99]
