"""Hook hosts in a unit of their own: another account runs them, and its keeper (`ingled.keeper`) starts and kills them.

The keeper connects to us, as the nursery does, and may be replaced at any time: what it was told and has not done yet
is told to the next one. Hosts outlive it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from ingled import link
from ingled.broker.host_processes import START_S, Told
from ingled.broker.peer import Peer

log = logging.getLogger(__name__)

WORDS_S = 10.0
"""Seconds that the keeper's word of how a host has ended may take to arrive."""
OTHERS_S = 0.5
"""The same, of a host that this daemon has adopted: the keeper may not be its parent, and say nothing."""


class HostUnit:
    """Has the keeper start and kill hosts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Peer, link.ToPeer], None]) -> None:
        self._loop, self._send = loop, send
        self.keeper: Peer | None = None
        self._last: int | None = None
        """Process id of the keeper that came last."""
        self._starting: dict[str, asyncio.TimerHandle] = {}
        """Groups for which a host has been ordered, and when that has taken too long."""
        self._to_kill: set[int] = set()
        """While there is no keeper."""
        self._children: set[int] = set()
        """Hosts that the present keeper has started for this daemon."""
        self._ends: dict[int, tuple[str, Sequence[str]]] = {}
        """How hosts have ended of whose end nobody has asked yet."""
        self._asked: dict[int, Told] = {}
        self.started: Callable[[str, int], None] = lambda group, pid: None
        self.failed: Callable[[str, str], None] = lambda group, why: None
        self.renewed: Callable[[], None] = lambda: None

    @property
    def expects(self) -> bool:
        """Return whether a host may come of which the keeper has not told yet."""
        return bool(self._starting)

    # ------------------------------------------------------------ what the broker wants

    def start(self, group: str) -> None:
        """Order a host; without a keeper, the next one is told."""
        self._starting[group] = self._loop.call_later(START_S, self._missed, group)
        if self.keeper is not None:
            self._send(self.keeper, link.StartHost(group))

    def _missed(self, group: str) -> None:
        del self._starting[group]
        what = "has not started it" if self.keeper else "is not there"
        self.failed(group, f"its keeper {what} for {START_S:.0f} s; see `systemctl status ingled-hooks`")

    def kill(self, pid: int) -> None:
        """Have a host killed."""
        if self.keeper is not None:
            self._send(self.keeper, link.Kill(pid))
        else:
            self._to_kill.add(pid)

    def ended(self, pid: int, then: Told) -> None:
        """Tell how a host has ended, when the keeper has said it; where it is not its child, or gone, nobody knows."""
        self._to_kill.discard(pid)
        if pid in self._ends:
            then(*self._ends.pop(pid))
        elif self.keeper is None:
            then("ended", ())
        else:
            self._asked[pid] = then
            self._loop.call_later(WORDS_S if pid in self._children else OTHERS_S, self._tell, pid, "ended", ())
        self._children.discard(pid)

    def _tell(self, pid: int, words: str, lines: Sequence[str]) -> None:
        if (then := self._asked.pop(pid, None)) is not None:
            then(words, lines)

    def dismiss(self) -> None:
        """Have the keeper leave: its unit ends with that."""
        if self.keeper is not None:
            self._send(self.keeper, link.Stop())

    # ------------------------------------------------------------ what the keeper says

    def attached(self, peer: Peer) -> None:
        """A keeper has come: it knows of nothing that the one before it was told."""
        self.keeper = peer
        for group in self._starting:
            self._send(peer, link.StartHost(group))
        for pid in self._to_kill:
            self._send(peer, link.Kill(pid))
        self._to_kill.clear()
        last, self._last = self._last, peer.pid
        if last not in (None, peer.pid):
            self._children.clear()
            self.renewed()

    def gone(self, peer: Peer) -> None:
        """A link broke: whoever waits for a word of this keeper waits for nothing."""
        if peer is self.keeper:
            self.keeper = None
            for pid in list(self._asked):
                self._tell(pid, "ended", ())

    def heard(self, message: link.FromPeer) -> None:
        """Take what the keeper says."""
        match message:
            case link.HostStarted():
                if (late := self._starting.pop(message.group, None)) is not None:
                    late.cancel()
                    self._children.add(message.pid)
                    self.started(message.group, message.pid)
                else:  # ordered twice, or too late
                    self.kill(message.pid)
            case link.HostNotStarted():
                if (late := self._starting.pop(message.group, None)) is not None:
                    late.cancel()
                    self.failed(message.group, f"it cannot be started: {message.why}")
            case link.HostEnded():
                if message.pid in self._asked:
                    self._tell(message.pid, message.status, message.log)
                else:
                    self._ends[message.pid] = (message.status, message.log)
                    self._loop.call_later(START_S, self._ends.pop, message.pid, None)
            case _:
                log.error("the keeper of hook hosts sent what none sends: %s", type(message).__name__)
