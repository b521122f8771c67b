"""Whether a death is explained by the kernel: it ends processes when memory runs out, and counts that by group."""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ingled import kills

LOOKS = 3
"""Whoever nobody here has died of after so many looks was another program's."""


class Shortages:
    """The workers, the counts of their groups, and which of them the daemon ends itself."""

    def __init__(
        self, counter: Callable[[int], Path] = kills.counter, count: Callable[[Path], int] = kills.count
    ) -> None:
        """`counter` returns what counts a process's group, `count` how many have been ended in it so far."""
        self._counter, self._count = counter, count
        self._counters: dict[int, Path] = {}
        self._tallies: dict[Path, Tally] = {}
        self._ours: set[int] = set()

    def watch(self, pid: int) -> None:
        """A worker has begun; when it has ended, its group can no longer be told."""
        if pid not in self._counters:
            path = self._counters[pid] = self._counter(pid)
            if path not in self._tallies:
                self._tallies[path] = Tally(partial(self._count, path))

    def ending(self, pid: int) -> None:
        """The daemon ends this worker itself: however that goes, memory has nothing to do with it."""
        if pid in self._counters:
            self._ours.add(pid)

    def look(self) -> None:
        """Do this now and then: what happened long before a death does not explain it."""
        for tally in self._tallies.values():
            tally.look()

    def explain(self, pid: int) -> bool:
        """Return whether it was the kernel that killed a process of this worker, of which has just been heard."""
        path = self._counters.get(pid)
        return path is not None and pid not in self._ours and self._tallies[path].explain()

    def forget(self, pid: int) -> None:
        """The worker has gone."""
        self._ours.discard(pid)
        path = self._counters.pop(pid, None)
        if path is not None and path not in self._counters.values():
            del self._tallies[path]


class Tally:
    """The ends of processes of one group that no death here has been explained by yet."""

    def __init__(self, count: Callable[[], int]) -> None:
        """`count` returns how many there have been so far."""
        self._count = count
        self._explained = count()
        self._seen = deque([self._explained] * LOOKS, LOOKS)

    def look(self) -> None:
        """Remember how many there are by now, and forget what is too old."""
        self._explained = max(self._explained, self._seen[0])
        self._seen.append(self._count())

    def explain(self) -> bool:
        """Return whether there is one; it explains no other death."""
        if self._count() <= self._explained:
            return False
        self._explained += 1
        return True
