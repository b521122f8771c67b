"""What memory there is for models: the kernel's numbers, and what control groups leave of them."""

import os
from pathlib import Path

import pytest
from ingled import machine
from ingled.machine import Memory

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 20971520 kB\nX: y\n")
    return tmp_path


def group(root: Path, lines: str, **folders: dict[str, str]) -> None:
    (root / "proc/self/cgroup").write_text(lines)
    for name, files in folders.items():
        folder = root / "sys/fs/cgroup" / name.replace("__", "/")
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)


def test_this_machine_has_memory() -> None:
    found = machine.read()
    assert 0 < found.free <= found.total


def test_without_a_control_group_it_is_the_machines(root: Path) -> None:
    assert machine.read(root=root) == Memory(32 * GIB, 20 * GIB)


def test_the_tightest_group_above_a_process_counts_and_its_cache_is_free(root: Path) -> None:
    inner = {"memory.max": "max", "memory.current": "5"}
    outer = {"memory.max": str(8 * GIB), "memory.current": str(3 * GIB), "memory.stat": f"anon 1\ninactive_file {GIB}"}
    group(root, "0::/a/b\n", a__b=inner, a=outer)
    found = machine.read(root=root)
    assert (found.total, found.free, found.group) == (8 * GIB, 6 * GIB, str(root / "sys/fs/cgroup/a"))


def test_version_1_counts_too_and_its_number_for_no_limit_is_none(root: Path) -> None:
    none = {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "0"}
    some = {"memory.limit_in_bytes": str(4 * GIB), "memory.usage_in_bytes": str(GIB)}
    group(root, "5:cpu:/x\n4:memory:/x\n", memory=none, memory__x=some)
    assert machine.read(root=root).free == 3 * GIB


def process(root: Path, pid: int, anonymous: int, group: str) -> int:
    folder = root / "proc" / str(pid)
    folder.mkdir()
    sizes = {"VmRSS": 3 * anonymous, "RssAnon": anonymous, "RssFile": anonymous, "RssShmem": 1024}
    (folder / "status").write_text(
        "Name:\tx\n" + "".join(f"{name}:\t {size >> 10} kB\n" for name, size in sizes.items())
    )
    (folder / "cgroup").write_text(f"0::{group}\n")
    return pid


def test_what_processes_keep_is_no_file_and_counts_where_it_is_taken_from(root: Path) -> None:
    pids = [process(root, 7, GIB, "/a/b"), process(root, 8, 2 * GIB, "/c"), 9]  # the last one has ended
    assert machine.kept(pids, Memory(0, 0), root) == 3 * GIB + 2048, "of the machine"
    assert machine.kept(pids, Memory(0, 0, str(root / "sys/fs/cgroup/a")), root) == GIB + 1024
    assert machine.kept([os.getpid()], machine.read()) > 1 << 20


def test_the_budget_leaves_others_their_head_room() -> None:
    memory = Memory(40 * GIB, 20 * GIB)
    assert memory.budget(0, None, GIB, coming=2 * GIB) == 17 * GIB, "what the daemon has yet to take is not for models"
    assert memory.budget(0, None, None) == 18 * GIB
    assert memory.budget(5 * GIB, None, GIB) == 24 * GIB
    assert memory.budget(0, 10 * GIB, None) == 10 * GIB
    assert memory.budget(0, None, 50 * GIB) == 0
    assert Memory(GIB, GIB).head_room == 512 << 20
