"""The drop-in folder of a running host: whatever changes its plugins is told once, and nothing else is."""

import os
import shutil
import time
from pathlib import Path

import pytest
from ingled import link
from ingled.folder import SETTLE_S
from ingled.testing_link import HostBench

GOOD = "from ingled.hooks import *\n@hookimpl\ndef ingled_prompt(messages):\n    return None\n"
WITHIN_S = 30.0  # 0.2 s where nothing else runs


def stale(bench: HostBench) -> None:
    """Wait for one Stale, and see that no other follows."""
    bench.broker.wait(link.Stale, WITHIN_S)
    bench.broker.quiet(0.3)


def put(file: Path, text: str) -> None:
    """Write a file in one step: of a writer that is held up between two, two changes would be told."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text)
    fresh.rename(file)


@pytest.fixture
def started(bench: HostBench) -> HostBench:
    bench.write("a", GOOD)
    bench.start()
    return bench


def test_a_plugin_that_is_added_changed_or_removed_is_told(started: HostBench) -> None:
    put(started.folder / "b.py", GOOD)
    stale(started)
    put(started.folder / "a.py", GOOD + "#")
    stale(started)
    (started.folder / "b.py").unlink()
    stale(started)


def test_a_file_that_is_moved_into_its_place_is_told_once(started: HostBench) -> None:
    fresh = started.folder / ".a.py.swp"
    fresh.write_text(GOOD + "#")
    os.rename(fresh, started.folder / "a.py")
    stale(started)


def test_what_is_written_bit_by_bit_is_told_once(started: HostBench) -> None:
    longest, name = SETTLE_S, 0
    while longest > 0.9 * SETTLE_S:  # this process did not run: who looked at the file held it to be done
        longest, name, last = 0.0, name + 1, time.monotonic()
        with (started.folder / f"b{name}.py").open("w") as file:
            for line in GOOD.splitlines():
                file.write(line + "\n")
                file.flush()
                longest = max(longest, time.monotonic() - last)
                last = time.monotonic()
                time.sleep(0.03)
        if longest > 0.9 * SETTLE_S:
            while started.broker.pump(1.0):
                pass
    stale(started)


def test_what_is_no_plugin_is_no_news(started: HostBench) -> None:
    (started.folder / "notes.txt").write_text("x")
    (started.folder / ".a.py.swp").write_text("x")
    (started.folder / "__pycache__").mkdir()
    (started.folder / "__pycache__" / "a.pyc").write_text("x")
    (started.folder / "a.py").read_text()
    started.broker.quiet(0.6)


def test_a_folder_that_is_not_there_yet_is_waited_for(bench: HostBench) -> None:
    folder = bench.folder / "not" / "yet"
    assert bench.start(folder=str(folder)) == {}
    folder.mkdir(parents=True)
    put(folder / "a.py", GOOD)
    stale(bench)
    shutil.rmtree(bench.folder / "not")
    stale(bench)
    folder.mkdir(parents=True)
    put(folder / "a.py", GOOD)
    stale(bench)


def test_a_link_to_a_file_elsewhere_is_followed(started: HostBench, tmp_path: Path) -> None:
    put(tmp_path / "b.py", GOOD)
    (started.folder / "b.py").symlink_to(tmp_path / "b.py")
    stale(started)
    put(tmp_path / "b.py", GOOD + "#")
    stale(started)


def test_a_broker_that_comes_later_is_told_of_a_change_that_it_did_not_see(started: HostBench) -> None:
    put(started.folder / "b.py", GOOD)
    started.broker.wait(link.Stale, WITHIN_S)
    started.broker.send(started.peer, link.Who())
    started.broker.wait(link.Offers)
    started.broker.wait(link.Stale, WITHIN_S)
