"""What processes cost, from a /proc of files and from the real one."""

import os
import subprocess
import sys
from pathlib import Path

from bench.proc import TICKS, busy_s, costs, is_core, parse_stat, processes, tree


def stat(pid: int, parent: int, user: int, system: int, pages: int, name: str = "python") -> str:
    before = " ".join(["0"] * 9)
    between = " ".join(["0"] * 8)
    return f"{pid} ({name}) S {parent} {before} {user} {system} {between} {pages} 0 0"


def test_a_line_of_stat_is_read_whatever_the_name() -> None:
    one = parse_stat(stat(7, 1, 100, 50, 3, name="a) S 9 (b"))
    assert (one.pid, one.parent) == (7, 1)
    assert one.cpu_s == 150 / TICKS
    assert one.rss_bytes == 3 * os.sysconf("SC_PAGE_SIZE")


def test_the_real_line_of_this_process_is_read() -> None:
    one = processes()[os.getpid()]
    assert one.parent == os.getppid()
    assert one.cpu_s > 0
    assert one.rss_bytes > 1 << 20


def fake(folder: Path) -> Path:
    """A broker (10) with a nursery (11), whose worker (12) has an EngineCore (13); and a stranger (20)."""
    for pid, parent, title in (
        (10, 1, "ingled"),
        (11, 10, "nursery"),
        (12, 11, "nursery"),
        (13, 12, "VLLM::EngineCore"),
        (20, 1, "stranger"),
    ):
        place = folder / str(pid)
        place.mkdir()
        (place / "stat").write_text(stat(pid, parent, pid * TICKS, 0, 1))
        (place / "cmdline").write_bytes(title.encode() + b"\0")
        (place / "smaps_rollup").write_text(f"Rss: 9 kB\nPss: {pid} kB\n")
    (folder / "stat").write_text(f"cpu {TICKS} {TICKS} {TICKS} 5 5 {TICKS} {TICKS} 0 0 0\ncpu0\n")
    (folder / "meminfo").write_text("")
    return folder


def test_a_part_is_a_process_and_its_descendants_less_the_later_parts_and_the_core(tmp_path: Path) -> None:
    found = costs({"broker": [10], "nursery": [11], "worker": [12]}, fake(tmp_path))
    assert {name: cost.cpu_s for name, cost in found.items()} == {"broker": 10, "nursery": 11, "worker": 12, "core": 13}
    assert found["worker"].pss_bytes == 12 * 1024


def test_the_engines_core_is_told_by_its_title(tmp_path: Path) -> None:
    proc = fake(tmp_path)
    assert is_core(13, proc)
    assert not is_core(12, proc)
    assert not is_core(99, proc)


def test_a_part_that_has_ended_costs_nothing(tmp_path: Path) -> None:
    assert costs({"gone": [99]}, fake(tmp_path))["gone"].cpu_s == 0


def test_all_that_kept_the_machine_busy_is_counted(tmp_path: Path) -> None:
    assert busy_s(fake(tmp_path)) == 5


def test_a_child_is_found_under_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in {one.pid for one in tree([os.getpid()], processes())}
        child.communicate(b"\n")
