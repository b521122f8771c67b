"""The nursery as the broker's detached child: started, watched by pidfd, started again with growing pauses."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ingled import link
from ingled.log_end import tail
from ingled.processes import exit_words, kill_group, runs

log = logging.getLogger(__name__)

TRIES = 5
"""Starts in a row that may fail before models that wait are failed too."""
HEALTHY_S = 30.0
"""A nursery that lived so long was a good one, as is one that became ready."""
RETRY_S = 5.0
"""Seconds until a start is tried again that the system refused (no memory, no descriptors, a full disk)."""


class NurseryChild:
    """Keeps one nursery running until `stop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: Path,
        engine: str,
        socket: Path | None,
        was_ready: Callable[[], bool],
        failed: Callable[[str, tuple[str, ...]], None],
    ) -> None:
        self._loop, self._runtime, self._engine, self._failed = loop, runtime, engine, failed
        self._was_ready = was_ready
        self._own_socket = ["--socket", str(socket)] if socket else []
        self._log = runtime / "logs" / "nursery.log"
        self._pid_file = runtime / link.NURSERY_FILE
        self._pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._fd: int | None = None
        self._stopping = False
        self._failures = 0
        self._started_at = 0.0

    @property
    def pid(self) -> int | None:
        """Return the process id of the running nursery."""
        return self._pid

    def adopt(self) -> bool:
        """Watch the nursery of an earlier broker, if it lives; returns whether it does."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
            if not runs(pid, "ingled.nursery"):
                return False
            self._fd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return False
        self._pid, self._started_at = pid, self._loop.time()
        self._loop.add_reader(self._fd, self._ended)
        return True

    def start(self) -> None:
        """Start the nursery in a session of its own, so that it outlives the broker."""
        if self._stopping:
            return
        self._forget()
        command = [sys.executable, "-P", "-m", "ingled.nursery", "--runtime", str(self._runtime)]
        command += ["--engine", self._engine, *self._own_socket]
        self._started_at = self._loop.time()
        try:
            with self._log.open("wb") as out:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=self._runtime
                )
            self._pid_file.write_text(str(self._process.pid), encoding="ascii")
        except OSError as error:
            log.error("the nursery cannot be started: %s", error)
            if self._process is None:
                self._loop.call_later(RETRY_S, self.start)
                return
        self._pid = self._process.pid
        self._fd = os.pidfd_open(self._pid)
        self._loop.add_reader(self._fd, self._ended)

    def _forget(self) -> None:
        """Stop watching; an adopted nursery that does not answer is killed."""
        if self._fd is None:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._process is None and self._pid is not None:
            kill_group(self._pid)
        self._fd = self._pid = None

    def _ended(self) -> None:
        assert self._fd is not None, "a watched process has a descriptor"
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        status = self._process.wait() if self._process else None
        self._process = self._fd = self._pid = None
        if self._stopping:
            return
        lived = self._loop.time() - self._started_at
        self._failures = 1 if lived > HEALTHY_S or self._was_ready() else self._failures + 1
        words = _words(status)
        lines = tail(self._log)
        log.error("the nursery ended (%s) after %.1f s; last line: %s", words, lived, lines[-1] if lines else "-")
        if self._failures >= TRIES:
            why = lines[-1] if lines else "it said nothing"
            self._failed(f"it ended {self._failures} times in a row, last with {words}: {why}", lines)
        self._loop.call_later(min(60.0, 0.2 * 4 ** (self._failures - 1)), self.start)

    async def stop(self, seconds: float) -> None:
        """End the nursery: in its orderly way within this time, else at once."""
        self._stopping = True
        pid = self._pid
        self._pid_file.unlink(missing_ok=True)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = self._loop.time() + seconds
        while self._pid is not None and self._loop.time() < deadline:
            await asyncio.sleep(0.01)  # `_ended` tells
        if self._pid is not None:
            kill_group(pid)
            if self._process is not None:
                self._process.wait()


def _words(status: int | None) -> str:
    if status is None:
        return "it was another broker's child"
    return exit_words(status)
