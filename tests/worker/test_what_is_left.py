"""A request that has ended leaves nothing that only the garbage collector finds: under load that would be all it has
to do, and it stops all streams meanwhile.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("what_is_left.py")


def left(engine: str, front: str, folder: Path) -> dict[str, int]:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), engine, front, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_nothing_is_left_of_requests(runtime: Path) -> None:
    assert left("echo", "", runtime) == {}


@pytest.mark.vllm
@pytest.mark.timeout(400)
@pytest.mark.parametrize("front", ["core", "async"])
def test_nothing_is_left_of_requests_on_vllm(runtime: Path, front: str) -> None:
    assert left("vllm", front, runtime) == {}
