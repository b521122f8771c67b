"""A short soak: under load and kills every text is exact, every request ends, and nothing grows."""

import pytest

from bench.soak import COLUMNS, asked, soak


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["echo", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_nothing_is_lost_and_nothing_grows(engine: str) -> None:
    tally = soak(1.5, engine, 5 if engine == "echo" else 8)
    print(dict(tally.counts))
    assert tally.wrong == []
    assert tally.counts["failed"] == 0, tally.counts
    assert asked(tally) > 20
    assert tally.counts["resumed"] > 0
    assert tally.left == []
    first, last = (dict(zip(COLUMNS, row, strict=True)) for row in (tally.rows[0], tally.rows[-1]))
    assert last["descriptors"] - first["descriptors"] < 20
    assert last["runtime files"] - first["runtime files"] < 5
    assert last["temporary files"] - first["temporary files"] < 5
    assert last["broker MB"] < 70
