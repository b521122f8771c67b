"""A short fuzz run on the public socket: the daemon lives, stays small, and counts what it drops."""

import pytest

from bench.hostile import measure


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fuzz_run_harms_nobody() -> None:
    found = measure("mixed", 15, seed=7)
    print(dict(found.inputs), found.dropped, found.mb)
    assert max(found.busy.memory) - found.mb[0] < 100
    assert found.dropped["unreadable"] > 0
    assert found.connections == 1, "only the one that asks is left"
    assert "Traceback" not in found.log
