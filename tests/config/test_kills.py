"""Where the kernel counts whom it has ended for want of memory: in the group of a process, as far as there is one."""

import os
from pathlib import Path

from ingled import kills


def write(root: Path, groups: str, **files: str) -> Path:
    """Make a machine with one process, 7, in these groups; `__` in a name is a slash."""
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text(groups)
    (root / "proc/vmstat").write_text("pgfault 12\noom_kill 9\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_its_own_group_counts_before_those_above_it_and_without_those_below(tmp_path: Path) -> None:
    one = {"a__b__memory.events.local": "low 0\noom 4\noom_kill 2\n", "a__b__memory.events": "oom_kill 3\n"}
    root = write(tmp_path, "0::/a/b\n", **one, **{"a__memory.events.local": "oom_kill 5\n"})
    assert kills.counter(7, root) == root / "sys/fs/cgroup/a/b/memory.events.local"
    assert kills.count(kills.counter(7, root)) == 2


def test_a_group_without_a_memory_controller_is_counted_above(tmp_path: Path) -> None:
    root = write(tmp_path, "0::/a/b\n", **{"a__b__cgroup.procs": "7\n", "a__memory.events": "oom_kill 5\n"})
    assert kills.count(kills.counter(7, root)) == 5


def test_version_1_counts_too(tmp_path: Path) -> None:
    text = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"
    root = write(tmp_path, "5:cpu:/x\n4:memory:/x\n0::/\n", **{"memory__x__memory.oom_control": text})
    assert kills.count(kills.counter(7, root)) == 4


def test_without_a_group_that_counts_it_is_the_machine_s(tmp_path: Path) -> None:
    without = {"memory__x__memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}  # Linux before 4.13
    root = write(tmp_path, "4:memory:/x\n0::/\n", **without)
    for pid in (7, 8):
        assert kills.count(kills.counter(pid, root)) == 9
    assert kills.count(tmp_path / "gone") == 0


def test_this_machine_counts() -> None:
    path = kills.counter(os.getpid())
    assert "oom_kill " in path.read_text() and kills.count(path) >= 0
