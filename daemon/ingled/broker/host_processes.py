"""The processes of hook hosts: watched to their end, whoever has started them, and killed where they do not leave."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ingled import link
from ingled.broker.host import Host
from ingled.broker.peer import Peer
from ingled.processes import runs

log = logging.getLogger(__name__)

START_S = 20.0
"""Seconds that a host may take to tell what it offers."""

Told = Callable[[str, Sequence[str]], None]
"""Takes how a host has ended, for people, and the last lines of its log."""


class Starter(Protocol):
    """Starts and kills hosts: as children of the broker (`HostChildren`), or in a unit of their own (`HostUnit`)."""

    started: Callable[[str, int], None]
    """Is told of a host that has been started for a group, with its process id."""
    failed: Callable[[str, str], None]
    """Is told of a group whose host cannot be started, and why."""
    renewed: Callable[[], None]
    """Is told that hosts that are started from now on are in another sandbox than those before, or may be."""

    @property
    def expects(self) -> bool:
        """Return whether a host may come of which `started` has not told yet."""

    def start(self, group: str) -> None:
        """Start a host: `started` or `failed` tells what has come of it."""

    def kill(self, pid: int) -> None:
        """Kill a host and all that it has started."""

    def ended(self, pid: int, then: Told) -> None:
        """A process has ended: find out how."""

    def dismiss(self) -> None:
        """The daemon stops, and so do all hosts."""


class HostProcesses:
    """All processes that run plugins and have not ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: Path,
        starter: Starter,
        ended: Callable[[Host, str, Sequence[str]], None],
    ) -> None:
        """`ended` is told of a host that has gone, how, and what it logged last."""
        self._loop, self._runtime, self._starter, self._ended = loop, runtime, starter, ended
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

    def watch(self, group: str, pid: int, setup: link.Setup) -> Host | None:
        """Watch a host that is there; None: it has ended."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        host = Host(group, pid, fd, setup, link.host_table(self._runtime, pid), heard_at=self._loop.time())
        self.living[pid] = host
        self._loop.add_reader(fd, self._has_ended, host)
        self._loop.call_later(START_S, self._too_slow, host)
        return host

    def _too_slow(self, host: Host) -> None:
        if host.plugins is None and host.pid in self.living:
            log.error("hook host %d did not load its plugins within %.0f s: killing it", host.pid, START_S)
            self._starter.kill(host.pid)

    def kill_if_alive(self, host: Host) -> None:
        """Kill a host that should have left by now."""
        if host.pid in self.living:
            self._starter.kill(host.pid)

    def kill_all(self) -> None:
        """Kill those that are left; nobody is told."""
        for host in list(self.living.values()):
            self._starter.kill(host.pid)
            self._forget(host)
            self._starter.ended(host.pid, lambda words, lines: None)
            host.file.unlink(missing_ok=True)

    def _has_ended(self, host: Host) -> None:
        self._forget(host)
        self._starter.ended(host.pid, lambda words, lines: self._ended(host, words, lines))

    def _forget(self, host: Host) -> None:
        self._loop.remove_reader(host.fd)
        os.close(host.fd)
        self.living.pop(host.pid, None)
