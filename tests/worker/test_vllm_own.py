"""The largest batch that a worker asks its own engine for: not where it takes too long, and never left half done."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ingled.worker.largest import ANSWER

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(200)]

SCRIPT = Path(__file__).with_name("own_double.py")
WHOLE = 4096


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What came of each case."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_it_is_run_where_it_takes_no_longer_than_that(found: dict[str, Any]) -> None:
    one = found["in time"]
    assert (one["ran"], one["held"], one["prompts"]) == (True, False, [1024] * 4)
    assert one["answers"][-4:] == [ANSWER] * 4
    assert one["took"] > 30


def test_what_would_take_longer_is_not_begun(found: dict[str, Any]) -> None:
    one = found["too long"]
    assert (one["ran"], one["held"]) == (False, False)
    assert one["prompts"] == [WHOLE // 32] * 2, "a small part has shown it"
    assert one["took"] < 3, "and has kept nobody waiting for long"


def test_what_fails_before_it_begins_leaves_no_engine_that_is_held(found: dict[str, Any]) -> None:
    one = found["fails"]
    assert (one["ran"], one["held"], one["prompts"]) == (None, False, [1024] * 2)


@pytest.mark.parametrize("case", ["in time", "too long", "fails"])
def test_nothing_of_it_counts(found: dict[str, Any], case: str) -> None:
    assert found[case]["unseen"] and found[case]["counts again"]
