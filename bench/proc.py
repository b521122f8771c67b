"""What processes cost, as the kernel counts it: CPU seconds and memory of whole trees, from /proc."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
CORE_TITLES = ("VLLM::EngineCore", "VLLM::Worker")
"""How vLLM calls the processes that run the model; everything else of a server is its front end."""


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat, as far as it is used here."""

    pid: int
    parent: int
    cpu_s: float
    rss_bytes: int


def parse_stat(text: str) -> Process:
    """Read a line of /proc/PID/stat. A name may hold blanks and brackets: the last one closes it."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    cpu = (int(fields[11]) + int(fields[12])) / TICKS
    return Process(int(head.split(" ", 1)[0]), int(fields[1]), cpu, int(fields[21]) * PAGE)


def processes(proc: Path = PROC) -> dict[int, Process]:
    """Return all processes; those that end meanwhile are left out."""
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                one = parse_stat((folder / "stat").read_text())
            except OSError:
                continue
            found[one.pid] = one
    return found


def tree(roots: Iterable[int], everything: dict[int, Process]) -> list[Process]:
    """Return these processes and all that descend from them, each once."""
    children: dict[int, list[int]] = {}
    for process in everything.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: dict[int, Process] = {}
    waiting = [pid for pid in roots if pid in everything]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found[pid] = everything[pid]
            waiting += children.get(pid, [])
    return list(found.values())


def title(pid: int, proc: Path = PROC) -> str:
    """Return the command line, or the title that the process gave itself."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_core(pid: int, proc: Path = PROC) -> bool:
    """Return whether this process runs the model, rather than a front end."""
    return title(pid, proc).startswith(CORE_TITLES)


@dataclass(frozen=True)
class Cost:
    """CPU seconds since its start and resident memory of a part of a server."""

    cpu_s: float
    rss_bytes: int
    pss_bytes: int


def costs(parts: dict[str, list[int]], proc: Path = PROC) -> dict[str, Cost]:
    """Return what each part costs, by name.

    A part is a list of processes, counted with all that descend from them; what belongs to a later part is counted
    there. The engine's core, wherever it hangs, is a part of its own, `core`.
    """
    everything = processes(proc)
    owner: dict[int, str] = {}
    for name, roots in parts.items():
        owner |= {process.pid: name for process in tree(roots, everything)}
    for pid in list(owner):
        if is_core(pid, proc):
            owner[pid] = "core"
    found = {}
    for name in (*parts, "core"):
        mine = [everything[pid] for pid, whose in owner.items() if whose == name]
        found[name] = Cost(
            sum(one.cpu_s for one in mine),
            sum(one.rss_bytes for one in mine),
            sum(pss_bytes(one.pid, proc) for one in mine),
        )
    return found


def pss_bytes(pid: int, proc: Path = PROC) -> int:
    """Return the memory of a process, shared pages divided among those that share them; 0 when it has gone."""
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def busy_s(proc: Path = PROC) -> float:
    """Return the CPU seconds that all processes together have had, those of low priority counted too."""
    with (proc / "stat").open() as lines:
        user, nice, system, _, _, irq, softirq = map(int, lines.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS
