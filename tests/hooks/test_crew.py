"""The threads of a host: they join where something waits, and leave when there is nothing to do."""

import os
import threading
import time
from pathlib import Path

import pytest
from ingled.hooks import crew as module
from ingled.hooks.crew import Crew
from ingled.hooks.table import Slot, Table
from ingled.testing_link import wait_until


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("hooks-"))


def test_threads_join_for_what_waits_leave_when_idle_and_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.2)
    done: list[int] = []
    gate = threading.Event()

    def work(item: int, slot: Slot) -> None:
        gate.wait(30)
        done.append(item)

    crew = Crew(Table(tmp_path, os.getpid()), work, lambda: None)
    for round_ in range(3):
        gate.clear()
        crew.put(*range(8))
        begin = time.monotonic()
        while len(threads()) < 8:
            assert time.monotonic() - begin < 30
            crew.look()
            time.sleep(module.WAIT_S)
        assert threads() == [f"hooks-{slot}" for slot in range(8)], "the slots of those that left are used again"
        gate.set()
        wait_until(lambda: not threads())
        assert sorted(done) == sorted([*range(8)] * (round_ + 1))
        assert not crew.busy


def test_what_is_put_while_threads_leave_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    done: list[int] = []
    crew = Crew(Table(tmp_path, os.getpid()), lambda item, slot: done.append(item), lambda: None)
    for number in range(2000):
        crew.put(number)
        if number % 3 == 0:
            time.sleep(0)
    begin = time.monotonic()
    while len(done) < 2000:
        assert time.monotonic() - begin < 30
        crew.look()
        time.sleep(module.WAIT_S)
    assert sorted(done) == list(range(2000))
