"""Whose fault it is that a hook host hangs or has died, and who has been at fault too often."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence

from ingled.broker.host import Host

log = logging.getLogger(__name__)

SILENT_S = 0.75
"""A host that has said nothing for so long while a call is late holds the interpreter lock somewhere."""
DEAD_S = 5.0
"""A host that has said nothing for so long is killed, whatever is with it."""
SAMPLE_S = 0.05
"""Over which it is seen which thread burns the processor."""
STRIKES = 2
"""Deaths or hangs of a host after which the plugin at fault gets one of its own."""

_LOADING = re.compile(r"loading plugin '([^']+)'")


def import_that_ended(pid: int, lines: Sequence[str]) -> str | None:
    """Return the plugin in whose import a host ended, by the last lines of the log that all hosts share."""
    for line in reversed(lines):
        said = line.partition(f" {pid}: ")[2]
        if said.startswith("host "):  # it was through with them
            return None
        if found := _LOADING.match(said):
            return found[1]
    return None


class Judge:
    """Finds the calls that a host hangs or died at, and counts for their plugins."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        lives: Callable[[Host], bool],
        kill: Callable[[int], None],
        alone: Callable[[Host, str], None],
    ) -> None:
        """`alone` is told of a plugin that was at fault twice, with the host that it brought down last."""
        self._loop, self._lives, self._kill, self._alone = loop, lives, kill, alone
        self._strikes: Counter[str] = Counter()
        self.on_hang: Callable[[Host, Sequence[int], str], list[str]] = lambda host, calls, why: []
        """Is told the calls at fault and why; returns the plugins that were at work in them."""

    def hangs(self, host: Host) -> bool:
        """Return whether not even its heart beats."""
        return self._loop.time() - host.heard_at > SILENT_S

    def judge(self, host: Host) -> None:
        """A host hangs: see which of its calls burns the processor, and kill it."""
        if not host.judged:
            host.judged = True
            before = {thread: ticks for thread, (_, ticks) in host.threads().items()}
            self._loop.call_later(SAMPLE_S, self._execute, host, before)

    def _execute(self, host: Host, before: dict[int, int]) -> None:
        if not self._lives(host):
            return
        burnt = {call: ticks - before.get(thread, 0) for thread, (call, ticks) in host.threads().items()}
        most = max(burnt.values(), default=0)
        guilty = [call for call, ticks in burnt.items() if ticks == most]
        log.error("hook host %d hangs: killing it", host.pid)
        self._strike(host, self.on_hang(host, guilty, "it held the hook host up, which was killed"))
        self._kill(host.pid)

    def look_at(self, hosts: Sequence[Host]) -> None:
        """Judge those that have said nothing for long."""
        for host in hosts:
            if host.plugins is not None and self._loop.time() - host.heard_at > DEAD_S:
                self.judge(host)

    def died(self, host: Host, words: str) -> None:
        """A host has ended, in `words`: what it was at then is at fault."""
        busy = list(host.busy())
        if busy and not host.judged:
            self._strike(host, self.on_hang(host, busy, f"the hook host ended under it ({words})"))

    def _strike(self, host: Host, names: Sequence[str]) -> None:
        for name in names:
            self._strikes[name] += 1
            if self._strikes[name] == STRIKES:
                self._alone(host, name)
