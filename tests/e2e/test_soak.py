"""A short soak: under load and kills every text is exact, every request ends, and nothing grows."""

import runpy
from pathlib import Path
from typing import Any

import pytest

SOAK = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "soak.py"))
slope: Any = SOAK["slope"]
soak: Any = SOAK["soak"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["echo", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_nothing_is_lost_and_nothing_grows(engine: str) -> None:
    tally = soak(1.5, engine, 5 if engine == "echo" else 8)
    print(dict(tally.counts))
    assert tally.wrong == []
    assert tally.counts["failed"] == 0
    assert tally.counts["done"] > 20
    assert tally.counts["resumed"] > 0
    first, last = tally.rows[0], tally.rows[-1]
    assert last[2] - first[2] < 20, "descriptors"
    assert last[3] == first[3], "threads"
    assert last[4] - first[4] < 5, "files of the runtime folder"
    assert last[1] < 70, "MB of the broker"
