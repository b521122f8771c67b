"""The nursery as a unit of its own: the service manager starts it, with the GPU and without our sandbox.

It connects to us by itself. Here it is only known, asked to leave when the daemon stops, and missed when
it is not there.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from ingled import link
from ingled.processes import runs

log = logging.getLogger(__name__)

MISSED_S = 60.0
"""Without a nursery for so long, models that wait for one are failed."""
LOOK_S = 5.0


class NurseryUnit:
    """Knows the nursery that somebody else runs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: Path,
        attached: Callable[[], int | None],
        ask_to_leave: Callable[[], None],
        failed: Callable[[str, tuple[str, ...]], None],
    ) -> None:
        """`attached` returns the process id of the nursery that is connected."""
        self._loop, self._attached, self._ask_to_leave, self._failed = loop, attached, ask_to_leave, failed
        self._pid_file = runtime / link.NURSERY_FILE
        self._seen_at = loop.time()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id of the nursery that is connected."""
        return self._attached()

    def adopt(self) -> bool:
        """Return whether the nursery of an earlier broker lives: it will come."""
        try:
            return runs(int(self._pid_file.read_text(encoding="ascii")), "ingled.nursery")
        except (OSError, ValueError):
            return False

    def start(self) -> None:
        """Have an eye on whether there is a nursery."""
        if self._looking is None:
            self._look()

    def _look(self) -> None:
        self._looking = self._loop.call_later(LOOK_S, self._look)
        pid, now = self._attached(), self._loop.time()
        if pid is not None:
            self._seen_at = now
            with contextlib.suppress(OSError):  # it only saves the next broker some waiting
                self._pid_file.write_text(str(pid), encoding="ascii")
        elif now - self._seen_at > MISSED_S:
            seconds = now - self._seen_at
            self._failed(f"none has come for {seconds:.0f} s; see `systemctl status ingle-nursery`", ())

    async def stop(self, seconds: float) -> None:
        """Ask the nursery to leave, and wait so long for it; if it still imports, it leaves when that is done."""
        if self._looking is not None:
            self._looking.cancel()
        pid = self._attached()
        if pid is None:
            return
        self._pid_file.unlink(missing_ok=True)
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        gone = asyncio.Event()
        self._loop.add_reader(fd, gone.set)
        try:
            self._ask_to_leave()
            await asyncio.wait_for(gone.wait(), seconds)
        except TimeoutError:
            log.warning("the nursery (%d) has not left in %.0f s: its lease will end it", pid, seconds)
        finally:
            self._loop.remove_reader(fd)
            os.close(fd)
