"""How the processes that this one has started by `multiprocessing`, as vLLM does, have ended."""

import multiprocessing
import signal
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

REAP_S = 0.2
"""Seconds that an end may take which has begun."""


class Children:
    """Those that have been seen while they lived."""

    def __init__(self) -> None:
        self._known: set[BaseProcess] = set()

    def look(self) -> None:
        """Do this now and then: of who was not seen nothing is known afterwards."""
        self._known.update(multiprocessing.active_children())

    def killed(self) -> bool:
        """Return whether one has been ended by SIGKILL, which none does by itself."""
        self.look()
        for one in self._known:
            if one.exitcode is None and wait([one.sentinel], 0):
                one.join(REAP_S)
        return any(one.exitcode == -signal.SIGKILL for one in self._known)
