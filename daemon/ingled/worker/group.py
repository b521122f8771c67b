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


class Taken:
    """What this group alone takes: the memory that comes back when it ends. Made before its first fork.

    Pages that it shares with the nursery are the nursery's. Those that its own processes share among each other are
    private to none of them; they are what this process shares with more than it did just before it forked the first.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._before: int | None = None
        self._marked: set[int] = set()
        os.register_at_fork(before=self._fork)

    def _fork(self) -> None:
        if self._before is None and os.getpid() == self._pid:
            self._before = _shared(rollup(self._pid))

    def mark(self) -> None:
        """Let `most` count from now on; what loading has had at most is no longer known then."""
        for pid in [self._pid, *others()]:
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak of what is resident is now's
                self._marked.add(pid)

    def most(self) -> int:
        """Return the most that it has been since `mark`, however short; where a peak is not known, what is now.

        The kernel keeps it, for each process by itself: of peaks at different times it is the sum.
        """
        return self.bytes() + sum(_fallen(pid) for pid in self._marked)

    def bytes(self) -> int:
        """Return it. What can be read again from a file (mapped weights, code) is not counted."""
        own = rollup(self._pid)
        among = 0 if self._before is None else max(0, _shared(own) - self._before)
        return own.get("Private_Dirty", 0) + among + sum(rollup(pid).get("Private_Dirty", 0) for pid in others())


def _shared(process: dict[str, int]) -> int:
    """Return what a process shares of memory that is no file."""
    return process.get("Anonymous", 0) - process.get("Private_Dirty", 0)


def _fallen(pid: int) -> int:
    """Return by how much less of a process is resident than at most."""
    with contextlib.suppress(OSError):
        lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in lines if name in ("VmHWM", "VmRSS")}
        return sizes.get("VmHWM", 0) - sizes.get("VmRSS", 0)  # one that is ending has neither
    return 0


def _pss(pid: int) -> int:
    return rollup(pid).get("Pss", 0)


def rollup(pid: int) -> dict[str, int]:
    """Return the kernel's sums over the memory of a process, in bytes; nothing when it has gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return {}
