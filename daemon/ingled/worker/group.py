"""The worker's own process group, read from /proc: who is left in it, and how much memory it holds."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let every process that this one forks from now on be killed when the thread that forked it ends."""
    libc = ctypes.CDLL(None)
    parent = 0

    def before() -> None:
        nonlocal parent
        parent = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    os.register_at_fork(before=before, after_in_child=in_child)


def others() -> list[int]:
    """Return the other living processes of this process's group."""
    own, group = os.getpid(), os.getpgrp()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == own:
            continue
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything: what follows the last one is state, parent, group.
            state, _, pgrp = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state not in "ZX":
                found.append(int(entry))
    return found


def kill_others() -> list[int]:
    """Kill what is left of this process's group; returns who that was."""
    left = others()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def memory() -> int:
    """Return the memory of the group in bytes; pages that processes share are divided among them (PSS)."""
    return sum(_pss(pid) for pid in [os.getpid(), *others()])


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
