"""A short fuzz run on the public socket: the daemon lives, stays small, and counts what it drops."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = Path(__file__).parents[2] / "bench" / "hostile.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fuzz_run_harms_nobody() -> None:
    done = subprocess.run(
        [sys.executable, str(HOSTILE), "--seconds", "15"], capture_output=True, text=True, timeout=240, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    found = re.search(r"broker ([\d.]+) -> ([\d.]+) MB; dropped \{'unreadable': (\d+)", done.stdout)
    assert found is not None
    before, after, unreadable = map(float, found.groups())
    assert after - before < 100
    assert unreadable > 0
    assert "Traceback" not in done.stdout
