"""A short fuzz run on the public socket: the daemon lives, stays small, and counts what it drops."""

import pytest

from bench.hostile import Arena, Attacked


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fuzz_run_harms_nobody() -> None:
    found = Attacked()
    with Arena() as arena:
        arena.attack("mixed", 15, seed=7, set_up="both", out=found)
        status, log = arena.status(), arena.log
    print(dict(found.inputs), status["dropped"], arena.mb)
    assert max(found.seen[0].memory) - arena.mb < 100
    assert status["dropped"]["unreadable"] > 0
    assert status["connections"] == 1, "only the one that asks is left"
    assert "Traceback" not in log
