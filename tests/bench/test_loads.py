"""Loads under a limit: what is drawn can be run, what came of it is counted right, and the limit is one."""

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench.loads import LEAST, MOST, Limit, draw, table
from bench.memory import MIB

Row = dict[str, Any]


@pytest.mark.parametrize("number", range(30))
def test_a_model_that_is_drawn_is_the_same_again_and_can_be(number: int) -> None:
    one = draw(number, 1)
    assert one == draw(number, 1) != draw(number, 2)
    shape = one.case.shape
    assert shape.heads % shape.kv_heads == 0 == shape.hidden % shape.heads
    found = tomllib.loads(one.profile("m", Path("/models/m"), "1MiB"))["models"]["m"]
    assert found["memory"] == "1MiB" and found["engine"]["max_num_batched_tokens"] >= found["max_sequences"]
    assert "memory" not in tomllib.loads(one.profile("m", Path("/models/m")))["models"]["m"]
    width = 4 if one.case.stored == "F32" else 2
    tokens = one.case.kv_mib * MIB // (shape.kv_bytes // 2 * width)
    assert tokens >= one.case.context, "one answer of full length has room"


def test_what_is_drawn_fits_more_often_than_not_and_its_largest_batch_can_be_filled() -> None:
    drawn = [draw(number, 3) for number in range(300)]
    fitting = sum(one.factor >= 1 for one in drawn)
    assert 180 <= fitting <= 240 and all(LEAST <= one.factor <= MOST for one in drawn)
    for one in drawn:
        width = 4 if one.case.stored == "F32" else 2
        room = one.case.kv_mib * MIB // (one.case.shape.kv_bytes // 2 * width)
        assert 2 * one.batch <= min(one.sequences * one.case.context, room)


def row(decision: str, most: int, killed: int = 0, failed: str = "", *, budget: int = 109, full: bool = True) -> Row:
    outcome = {"most": most, "taken": 80, "full": full and not killed, "killed": killed, "failed": failed}
    return {"decision": decision, "need": 100, "parts": {"activations": 16}, "budget": budget} | outcome


def test_what_came_of_loads_is_counted() -> None:
    rows = [
        row("fits", 100),
        row("fits", 111),
        row("fits", 90, full=False),
        row("fits", 0, 1, "died", budget=120),
        row("never", 90, budget=95),
        row("never", 120, 1, "died", budget=70),
        {"decision": "wait", "need": 100, "budget": 100},
    ]
    found, *words = table(rows).split("\n\n")
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[2:]] == [
        ["fits", "4", "1", "3", "2", "1"],
        ["of these within 10% of the limit", "3", "0", "3", "2", "1"],
        ["never", "2", "1", "1", "1", "0"],
        ["of these within 10% of the limit", "1", "0", "1", "1", "0"],
    ]
    most = "+0.4 % on average, 8.6 % around that, -9.9 to +11.1 %, 1 of 3 within 5 %"
    ready = "+5.0 % on average, 0.0 % around that, +5.0 to +5.0 %, 3 of 3 within 5 %"
    assert words == [
        "1 more: wait.",
        f"Estimate against what was taken after its largest batch: {most}.",
        f"Estimate against what was taken after it was ready: {ready}.",
    ]


def test_of_nothing_nothing_is_said() -> None:
    assert len(table([]).splitlines()) == 6


def test_a_limit_is_one() -> None:
    try:
        limit = Limit(f"ingle-test-{os.getpid()}")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    with limit:
        limit.set(64 * MIB)
        eat = ["python3", "-c", "import sys; b'x' * (int(sys.argv[1]) << 20)"]
        assert subprocess.run([*limit.command, *eat, "8"], timeout=60).returncode == 0
        assert limit.killed == 0 and limit.used < 64 * MIB
        assert subprocess.run([*limit.command, *eat, "200"], timeout=60).returncode == -9
        assert limit.killed == 1
    assert not limit.folder.exists()
