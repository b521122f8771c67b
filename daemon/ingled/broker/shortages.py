"""Whether a death is explained by the kernel: it ends processes when memory runs out, and counts them."""

from collections import deque
from collections.abc import Callable

from ingled.processes import ended_for_memory

LOOKS = 3
"""Whoever nobody here has died of after so many looks was another program's."""


class Shortages:
    """The ends of processes that no death here has been explained by yet."""

    def __init__(self, count: Callable[[], int] = ended_for_memory) -> None:
        """`count` returns how many there have been since the machine started."""
        self._count = count
        self._explained = count()
        self._seen = deque([self._explained] * LOOKS, LOOKS)

    def look(self) -> None:
        """Do this now and then: what happened long before a death does not explain it."""
        self._explained = max(self._explained, self._seen[0])
        self._seen.append(self._count())

    def explain(self) -> bool:
        """Return whether a death of which has just been heard is one of these ends; it explains no other one."""
        if self._count() <= self._explained:
            return False
        self._explained += 1
        return True
