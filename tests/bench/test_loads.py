"""Loads under a limit: what is drawn can be run, what came of it is counted right, and the limit is one."""

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench.loads import Limit, draw, table
from bench.memory import MIB


@pytest.mark.parametrize("number", range(30))
def test_a_model_that_is_drawn_is_the_same_again_and_can_be(number: int) -> None:
    one = draw(number, 1)
    assert one == draw(number, 1) != draw(number, 2)
    shape = one.case.shape
    assert shape.heads % shape.kv_heads == 0
    found = tomllib.loads(one.profile("m", Path("/models/m"), "1MiB"))["models"]["m"]
    assert found["memory"] == "1MiB" and found["engine"]["max_num_batched_tokens"] >= found["max_sequences"]
    assert "memory" not in tomllib.loads(one.profile("m", Path("/models/m")))["models"]["m"]
    width = 4 if one.case.stored == "F32" else 2
    tokens = one.case.kv_mib * MIB // (shape.kv_bytes // 2 * width)
    assert tokens >= one.case.context, "one answer of full length has room"


def test_what_came_of_loads_is_counted() -> None:
    def row(decision: str, most: int, killed: int = 0, failed: str = "") -> dict[str, Any]:
        return {"decision": decision, "need": 100, "budget": 110, "most": most, "killed": killed, "failed": failed}

    rows = [
        row("fits", 100),
        row("fits", 111),
        row("fits", 0, 1, "died"),
        row("never", 90),
        row("never", 120, 1, "died"),
    ]
    assert table(rows).splitlines() == [
        "3 loads were called fitting: 1 ran out of memory, 1 had more than there was.",
        "2 were called Never: 1 of them lived all the same.",
        "Estimate against peak: -9.9 to +0.0 %, median +0.0 %.",
    ]


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
