"""The processes of hook hosts: started or adopted, watched to their end, and killed where they do not leave."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ingled import link
from ingled.broker.host import Host
from ingled.broker.processes import kill_group, runs
from ingled.broker.router import Peer

log = logging.getLogger(__name__)

START_S = 20.0
"""Seconds that a host may take to tell what it offers."""


class HostProcesses:
    """All processes that run plugins and have not ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, runtime: Path, ended: Callable[[Host, int | None], None]
    ) -> None:
        """`ended` is told of a host that has gone, with its status where it was a child of this process."""
        self._loop, self._runtime, self._ended = loop, runtime, ended
        self.living: dict[int, Host] = {}
        """By process id."""

    def by_peer(self, peer: Peer) -> Host | None:
        """Return the host at the other end of a link."""
        return next((host for host in self.living.values() if host.peer is peer), None)

    def left(self) -> set[int]:
        """Return the hosts of an earlier broker that live; files of others are removed."""
        found = set()
        for path in (self._runtime / "hosts").glob("*.at"):
            pid = int(path.stem) if path.stem.isdigit() else 0
            if pid and runs(pid, "ingled.hooks"):
                found.add(pid)
            else:
                path.unlink(missing_ok=True)
        return found

    def start(self, group: str, setup: link.Setup) -> Host:
        """Start a host; it is killed if it does not tell in time what it offers. Raises OSError."""
        command = [sys.executable, "-P", "-m", "ingled.hooks", "--runtime", str(self._runtime), "--name", group]
        folder = self._runtime / "hosts"
        folder.mkdir(mode=0o700, exist_ok=True)
        with (self._runtime / "logs" / "hooks.log").open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=folder
            )
        host = self._watch(group, process.pid, setup, process)
        self._loop.call_later(START_S, self._too_slow, host)
        return host

    def adopt(self, group: str, pid: int, setup: link.Setup) -> Host | None:
        """Watch a host of an earlier broker; None: it has ended."""
        with contextlib.suppress(ProcessLookupError):
            return self._watch(group, pid, setup)
        return None

    def _watch(self, group: str, pid: int, setup: link.Setup, process: "subprocess.Popen[bytes] | None" = None) -> Host:
        fd, file = os.pidfd_open(pid), link.host_table(self._runtime, pid)
        host = Host(group, pid, fd, setup, file, process, heard_at=self._loop.time())
        self.living[pid] = host
        self._loop.add_reader(fd, self._has_ended, host)
        return host

    def _too_slow(self, host: Host) -> None:
        if host.plugins is None and host.pid in self.living:
            log.error("hook host %d did not load its plugins within %.0f s: killing it", host.pid, START_S)
            kill_group(host.pid)

    def kill_if_alive(self, host: Host) -> None:
        """Kill a host that should have left by now."""
        if host.pid in self.living:
            kill_group(host.pid)

    def kill_all(self) -> None:
        """Kill those that are left; nobody is told."""
        for host in list(self.living.values()):
            kill_group(host.pid)
            if host.process is not None:
                host.process.wait()
            self._forget(host)
            host.file.unlink(missing_ok=True)

    def _has_ended(self, host: Host) -> None:
        status = host.process.wait() if host.process is not None else None
        self._forget(host)
        self._ended(host, status)

    def _forget(self, host: Host) -> None:
        self._loop.remove_reader(host.fd)
        os.close(host.fd)
        self.living.pop(host.pid, None)
