"""vLLM's calls for sleep, as the worker makes them, with the real engine on a CPU; only its memory is played."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

SCRIPT = Path(__file__).with_name("sleep_conformance.py")
MIB = 1 << 20


@pytest.fixture(scope="module", params=["core", "async"])
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What came of each case, through the engine core and through AsyncLLM."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT), request.param]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_on_a_cpu_the_worker_says_that_it_cannot_sleep_and_why(found: dict[str, Any]) -> None:
    assert found["no_sleep"] == "on a CPU, vLLM's sleep gives no memory back"
    assert found["device_weights"] == 0


@pytest.mark.parametrize("level", [1, 2])
def test_it_sleeps_and_wakes_and_answers_as_before(found: dict[str, Any], level: int) -> None:
    cycles = found[f"level {level}"]
    assert cycles["slept"] == [[64 * MIB, 960 * MIB]] * 5
    assert cycles["states"] == [True, False] * 5
    assert cycles["took"] == [1024 * MIB] * 5
    assert cycles["same"]


@pytest.mark.parametrize("level", [1, 2])
def test_what_is_asked_only_to_see_that_is_not_counted(found: dict[str, Any], level: int) -> None:
    assert found[f"level {level}"]["uncounted"]


def test_a_request_that_comes_in_its_sleep_waits_for_its_waking(found: dict[str, Any]) -> None:
    assert found["asked in sleep"] == {"waits": True, "same": True}


def test_what_frees_nothing_or_comes_back_as_another_one_is_found_out(found: dict[str, Any]) -> None:
    assert found["keeps"] == "asleep at level 1 it gave back 0 MiB of 512 MiB"
    assert found["other weights"] == "awake from level 2 it answered the same prompt differently than before"
    assert found["no weights"].startswith("it could not wake from level 2: ")


def test_a_model_that_stays_where_it_is_is_looked_at_by_its_answer_alone(found: dict[str, Any]) -> None:
    assert found["checked"] == "as before"
    assert found["checked with others"] == "it answered the same prompt differently than before"
