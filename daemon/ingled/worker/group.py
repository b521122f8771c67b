"""The worker's own process group, read from /proc: who is left in it, and how much memory it holds."""

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ingled.link import STACKS_SIGNAL
from ingled.worker.inherited import Inherited

PR_SET_PDEATHSIG = 1

NEWS, NEWS_BYTES = 0.01, 2 << 20
"""When the resident memory of a process has changed by such a part, and so much, it is measured."""
OLD_S = 300.0
"""And after such a time in any case: what it shares may be another's by now."""


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


def show_stacks() -> None:
    """Have the other processes of this group, which are the engine's, write the stacks of their threads to the log.

    One that a signal has stopped writes nothing: woken, it would go on with streams that are another engine's by then.
    """
    for pid in others():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, STACKS_SIGNAL)


def kill_others() -> list[int]:
    """Kill what is left of this process's group; returns who that was."""
    left = others()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


@dataclass(frozen=True, slots=True)
class Sizes:
    """The memory of the group, in bytes."""

    divided: int
    """Pages that processes share are divided among them (PSS)."""
    taken: int
    """What comes back when the group ends; see `Taken`."""
    most: int
    """The most that this has been since `Taken.mark`, however short; where a peak is not known, what is now.

    The kernel keeps it, for each process by itself: of peaks at different times it is the sum.
    """


class Taken:
    """What this group alone takes: the memory that comes back when it ends. Made before its first fork.

    Pages that it shares with the nursery are the nursery's. Those that its own processes share among each other are
    private to none of them; they are what this process shares, but for what it shared before it forked the first.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._before: int | None = None
        self._inherited: Inherited | None = None
        self._peaks: dict[int, tuple[int, int]] = {}
        """Of those that were marked: the peak that was seen, and how much of it were pages of files."""
        os.register_at_fork(before=self._fork)

    def _fork(self) -> None:
        if self._before is None and os.getpid() == self._pid:
            self._before = _shared(rollup(self._pid))
            with contextlib.suppress(OSError):
                self._inherited = Inherited()

    def mark(self) -> None:
        """Let `most` count from now on; what loading has had at most is no longer known then."""
        for pid in [self._pid, *others()]:
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak of what is resident is now's
                self._peaks[pid] = (0, 0)

    def measure(self) -> Sizes:
        """Return it. What can be read again from a file (mapped weights, code) is not `taken`."""
        found = {pid: rollup(pid) for pid in [self._pid, *others()]}
        among = 0 if self._before is None else max(0, _shared(found[self._pid]) - self._others(self._before))
        sums = {name: sum(one.get(name, 0) for one in found.values()) for name in ("Pss", "Private_Dirty")}
        taken = sums["Private_Dirty"] + among
        fallen = (self._fallen(pid, one) for pid, one in found.items() if pid in self._peaks and "Rss" in one)
        return Sizes(sums["Pss"], taken, taken + sum(fallen))

    def _others(self, before: int) -> int:
        """Return how much of what this process shared before its first fork, so many bytes, it has not written to."""
        with contextlib.suppress(OSError):
            return before if self._inherited is None else self._inherited.still()
        return before

    def _fallen(self, pid: int, now: dict[str, int]) -> int:
        """Return how much more memory that is no file a process has had at most.

        The kernel's peak has pages of files in it, which it drops when it likes: as many count as there were when the
        peak was first seen. What is resident is taken from the same look: what is freed between two looks would count
        twice. Pages that move as the kernel walks do; then more is resident than ever was, and this takes it back.
        """
        most, anonymous = resident(pid)[1], now.get("Anonymous", 0)
        if most > self._peaks[pid][0]:
            self._peaks[pid] = (most, now["Rss"] - anonymous)
        return most - self._peaks[pid][1] - anonymous


class Gauge:
    """The sizes of the group, measured anew when it has changed: for that the kernel walks all of its pages.

    Meanwhile no process of it gets a page: at one request at a time a token cost a third more.
    """

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._resident: dict[int, tuple[int, int]] = {}
        self._until = 0.0
        self._sizes = Sizes(0, 0, 0)

    def read(self, *, anew: bool = False) -> Sizes:
        """Return the sizes: at most `OLD_S` seconds old, of processes that are as large as then, or nearly."""
        now = {pid: resident(pid) for pid in [os.getpid(), *others()]}
        if anew or now.keys() != self._resident.keys() or time.monotonic() > self._until or self._changed(now):
            self._sizes, self._resident, self._until = self._taken.measure(), now, time.monotonic() + OLD_S
        return self._sizes

    def _changed(self, now: dict[int, tuple[int, int]]) -> bool:
        return any(
            abs(size - before) > max(NEWS * size, NEWS_BYTES)
            for pid, sizes in now.items()
            for size, before in zip(sizes, self._resident[pid], strict=True)
        )


def _shared(process: dict[str, int]) -> int:
    """Return what a process shares of memory that is no file."""
    return process.get("Anonymous", 0) - process.get("Private_Dirty", 0)


def resident(pid: int) -> tuple[int, int]:
    """Return how much of a process is resident, and was at most, in bytes: the kernel keeps count. 0 when it ends."""
    with contextlib.suppress(OSError):
        lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in lines if name in ("VmHWM", "VmRSS")}
        return sizes.get("VmRSS", 0), sizes.get("VmHWM", 0)  # one that is ending has neither
    return 0, 0


def rollup(pid: int) -> dict[str, int]:
    """Return the kernel's sums over the memory of a process, in bytes; nothing when it has gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return {}
