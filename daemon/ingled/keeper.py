"""`python -m ingled.keeper --runtime DIR`: starts hook hosts for the broker that listens there, and ends them.

It is the unit that hook hosts have for themselves where systemd runs the daemon (docs/service.md): they are of another
account than the broker, which therefore can neither start nor kill them. It runs no plugin, and imports none.
"""

import argparse
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from ingled import journal, link
from ingled.line import Line
from ingled.log_end import tail
from ingled.processes import exit_words, host_log, kill_group, runs, start_host

log = logging.getLogger(__name__)


class Keeper:
    """Holds the hosts that it has started. Those of an earlier keeper live, and can be killed."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._line = Line(runtime, "keeper")
        self._hosts: dict[int, subprocess.Popen[bytes]] = {}
        """By descriptor of the process."""
        self._leaving = False

    def run(self) -> int:
        """Serve until the broker, a signal or the lease ends it; hosts live on by their own lease."""
        waked, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._leave())
        while not self._line.expired and not self._leaving:
            self._line.tick()
            self._wait(waked)
            for message in self._line.receive():
                self._obey(message)
        log.info("the keeper of hook hosts leaves: %s", "asked" if self._leaving else "no broker answered")
        self._line.leave()
        return 0

    def _leave(self) -> None:
        self._leaving = True

    def _wait(self, waked: int) -> None:
        """Wait for what comes next, and tell of hosts that have ended."""
        poll = select.poll()
        for fd in (waked, *self._hosts):
            poll.register(fd, select.POLLIN)
        if (connection := self._line.connection) is not None:
            poll.register(connection, select.POLLIN | (select.POLLOUT if connection.wants_write else 0))
        ready = {fd for fd, _ in poll.poll(self._line.tick_s * 1000)}
        if connection is not None and connection.wants_write:
            with contextlib.suppress(OSError):  # `receive` will tell
                connection.flush()
        for fd in ready & set(self._hosts):
            self._reap(fd)

    def _obey(self, order: link.ToPeer) -> None:
        match order:
            case link.StartHost():
                self._start(order.group)
            case link.Kill():
                if runs(order.pid, "ingled.hooks"):
                    kill_group(order.pid)
            case link.Stop():  # the daemon stops; hosts of which it knows have left
                for host in self._hosts.values():
                    kill_group(host.pid)
                self._leave()
            case _:
                log.error("message that is for no keeper: %s", type(order).__name__)

    def _start(self, group: str) -> None:
        try:
            host = start_host(self._runtime, group)
        except OSError as error:
            self._line.send(link.HostNotStarted(group, str(error)))
            return
        self._hosts[os.pidfd_open(host.pid)] = host
        self._line.send(link.HostStarted(group, host.pid))

    def _reap(self, fd: int) -> None:
        host = self._hosts.pop(fd)
        os.close(fd)
        words = exit_words(host.wait())
        log.info("hook host %d: %s", host.pid, words)
        self._line.send(link.HostEnded(host.pid, words, list(tail(host_log(self._runtime)))))


def main() -> int:
    """Run the keeper in this process."""
    parser = argparse.ArgumentParser(prog="ingled.keeper", description=__doc__)
    parser.add_argument("--runtime", type=Path, required=True, help="folder with the hosts' socket and its secret")
    arguments = parser.parse_args()
    journal.configure("INFO", "ingled-hooks", "%(asctime)s %(levelname)s %(name)s: %(message)s")
    return Keeper(arguments.runtime.absolute()).run()


if __name__ == "__main__":
    sys.exit(main())
