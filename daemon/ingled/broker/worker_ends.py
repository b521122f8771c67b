"""How workers end: told to leave, killed because they are silent, or by themselves; and why, as far as it is known."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from ingled import link, remains
from ingled.broker.nursery_link import NurseryLink
from ingled.broker.shortages import Shortages
from ingled.broker.worker_processes import WorkerProcesses
from ingled.core import events as on

STOP_S = 10.0
"""Seconds that a worker has to leave in its orderly way."""
STATUS_WAIT_S = 0.5
"""Seconds that a dead worker's exit status may take to arrive from the nursery."""


class WorkerEnds:
    """Watches the processes of workers, and tells the core once one has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        nursery: NurseryLink,
        folders: Path,
        gone: Callable[[int], None],
        dispatch: Callable[[on.Event], None],
    ) -> None:
        """`gone` is told of a process id before the core is; `folders` are those of workers."""
        self._loop, self._nursery, self._folders, self._gone, self._dispatch = loop, nursery, folders, gone, dispatch
        self._processes = WorkerProcesses(loop, self._has_died)
        self._shortages = Shortages()
        self.on_short: Callable[[str], None] = lambda model: None
        """Is called when a model's worker has been ended because memory ran out, before the core hears of its end."""

    @property
    def alive(self) -> list[int]:
        """Return the pids of front processes that have not ended."""
        return list(self._processes.living)

    def watch(self, model: str, pid: int) -> None:
        """A worker's process lives; to be told twice is fine."""
        self._shortages.watch(pid)
        self._processes.watch(model, pid)

    def look(self) -> None:
        """Do this now and then: whom the kernel ended long before a death, that death is not."""
        self._shortages.look()

    def stop(self, pid: int) -> None:
        """Have the nursery end a worker, which may be gone, or not be its parent; then it is killed in a while."""
        self._shortages.ending(pid)
        self._nursery.tell(link.Kill(pid))
        self._loop.call_later(STOP_S, self._processes.kill_if_alive, pid, STOP_S)

    def kill_hanging(self, pid: int) -> None:
        """Have one that says nothing write its stacks into its log, and kill it."""
        self._shortages.ending(pid)
        self._processes.kill_hanging(pid)

    def exited(self, message: link.Exited) -> None:
        """The nursery tells how one has ended."""
        self._processes.unwatch(message.pid)
        self._ended(message.model, message.pid, message.status, tuple(message.log))

    def explained(self, model: str, pid: int, reason: str, *, killed: bool) -> str:
        """Return the reason of an end, and that memory ran out, if that is why the kernel has just killed it."""
        if not killed or not self._shortages.explain(pid):
            return reason
        self.on_short(model)
        return f"{reason} (the kernel ran out of memory)"

    def _has_died(self, model: str, pid: int) -> None:
        """A process has ended; the nursery, its parent, will tell how, if it lives."""
        self._loop.call_later(STATUS_WAIT_S if self._nursery.peer else 0, self._ended, model, pid, "ended", ())

    def _ended(self, model: str, pid: int, status: str, lines: tuple[str, ...]) -> None:
        self._gone(pid)
        # Its nursery does this, unless that died before it.
        remains.remove(self._folders / str(pid))
        why = self.explained(model, pid, status, killed="SIGKILL" in status)
        self._shortages.forget(pid)
        self._dispatch(on.WorkerGone(self._loop.time(), model, pid, why, lines))
