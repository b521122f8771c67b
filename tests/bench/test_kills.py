"""The bench of kills: real ones, under streams of the echo engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.kills import HEAD, Break, Reader, row

ROOT = Path(__file__).parents[2]
WHAT = ("broker", "replace", "worker", "nursery")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_silence_is_the_longest_since_the_break_and_the_time_when_it_ended() -> None:
    one = Reader("", "")
    one.times = [9.0, 9.9, 10.1, 12.5, 12.6, 13.9]
    assert one.silence(10.0) == pytest.approx((2.4, 2.5))
    assert one.silence(12.55) == pytest.approx((1.3, 1.35))


def test_a_row_tells_the_worst_of_all_breaks() -> None:
    one, other = Reader("", "", wrong=["text"]), Reader("", "", resumed=2)
    found = [
        Break(0.5, [(0.1, 1.0), (0.3, 2.0)], [0, 1, 0]),
        Break(0.7, [(0.2, 1.5), (0.9, 4.0)], [0, 0, -1]),
    ]
    want = ["broker", "14", "2", "0.70", "0.25", "0.90", "1.75", "4.00", "1", "2", "+0, +1, +0"]
    assert row("broker", 14, found, [one, other]) == want


def test_streams_outlive_every_kill_and_nothing_is_left() -> None:
    """It ends with 1 when a text is wrong, or when something is left; each stream has its own connection."""
    command = [sys.executable, "-m", "bench.kills", "--quick", "--engine", "echo", "--streams", "3", "--busy", "1"]
    done = subprocess.run(
        [*command, "--what", *WHAT], capture_output=True, text=True, timeout=100, cwd=ROOT, check=False,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = [cells(line) for line in done.stdout.splitlines() if line.startswith("|")]
    assert table[0] == HEAD
    rows = {one[0]: dict(zip(HEAD[1:], one[1:], strict=True)) for one in table[2:]}
    assert set(rows) == set(WHAT)
    for what, one in rows.items():
        assert (one["times"], one["busy beside"], one["wrong or failed"]) == ("1", "1", "0"), (what, one)
        assert float(one["streams go on, s: median"]) <= float(one["last"])
        assert (one["new broker answers, s"] == "-") == (what in ("worker", "nursery"))
    assert "0 wrong texts []; left when all had stopped: nothing." in done.stdout
