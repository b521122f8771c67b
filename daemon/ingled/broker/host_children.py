"""Hook hosts as children of the broker: they have its account and its sandbox, if there is one."""

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

from ingled.broker.host_processes import Told
from ingled.log_end import tail
from ingled.processes import exit_words, host_log, kill_group, start_host

log = logging.getLogger(__name__)


class HostChildren:
    """Starts hosts; those of an earlier broker are others' children, and can be killed too."""

    expects = False
    """It is known of each that has been started before it can say a word."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self.started: Callable[[str, int], None] = lambda group, pid: None
        self.failed: Callable[[str, str], None] = lambda group, why: None
        self.renewed: Callable[[], None] = lambda: None

    def start(self, group: str) -> None:
        """Start a host, and tell of it at once."""
        try:
            child = start_host(self._runtime, group)
        except OSError as error:
            self.failed(group, f"it cannot be started: {error}")
            return
        self._children[child.pid] = child
        self.started(group, child.pid)

    def kill(self, pid: int) -> None:
        """Kill a host and all that it has started."""
        kill_group(pid)

    def ended(self, pid: int, then: Told) -> None:
        """Tell at once how it has ended."""
        child = self._children.pop(pid, None)
        then("ended" if child is None else exit_words(child.wait()), tail(host_log(self._runtime)))

    def dismiss(self) -> None:
        """There is nobody but the hosts."""
