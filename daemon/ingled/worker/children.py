"""How the processes that this one has started by `multiprocessing`, as vLLM does, have ended."""

import multiprocessing
import signal
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

REAP_S, LOOK_S = 1.0, 0.005
"""Seconds that an end may take which has begun, and between two looks at it."""


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
        until = time.monotonic() + REAP_S  # `join` waits without bound for one that hangs as it exits
        for one in self._known:
            while one.exitcode is None and wait([one.sentinel], 0) and time.monotonic() < until:
                time.sleep(LOOK_S)
        return any(one.exitcode == -signal.SIGKILL for one in self._known)
