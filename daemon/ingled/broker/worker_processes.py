"""The processes of workers: watched to their end, and killed where they do not leave."""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial

from ingled import link
from ingled.processes import kill_group, show_stacks

log = logging.getLogger(__name__)


class WorkerProcesses:
    """All front processes of workers that have not ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[str, int], None]) -> None:
        """`ended` is told of the model and the process id, once."""
        self._loop, self._ended = loop, ended
        self.living: dict[int, int] = {}
        """Descriptors by process id."""

    def watch(self, model: str, pid: int) -> None:
        """Tell when this process ends; watching it twice is fine."""
        if pid in self.living:
            return
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(self._ended, model, pid)
            return
        self.living[pid] = fd
        self._loop.add_reader(fd, partial(self._died, model, pid))

    def unwatch(self, pid: int) -> None:
        """Tell nothing more of it."""
        fd = self.living.pop(pid, None)
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)

    def kill_if_alive(self, pid: int, seconds: float) -> None:
        """Kill one that was told to leave so many seconds ago."""
        if pid in self.living:
            log.error("worker %d was told to stop %.0f s ago: killing it", pid, seconds)
            kill_group(pid)

    def kill_hanging(self, pid: int) -> None:
        """Have one that says nothing write its stacks into its log, and kill it."""
        show_stacks(pid)
        self._loop.call_later(link.STACKS_S, self._kill, pid)

    def _kill(self, pid: int) -> None:
        if pid in self.living:  # else it has gone, and its number may be somebody else's
            kill_group(pid)

    def _died(self, model: str, pid: int) -> None:
        self.unwatch(pid)
        self._ended(model, pid)
