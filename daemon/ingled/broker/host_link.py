"""Hook hosts on the private link, at the workers' socket, or with their keeper at one of their own.

There they are of another account, and have a secret of their own: what a plugin can read lets nobody be a worker.
"""

import asyncio
import hmac
import logging
from collections.abc import Callable

from ingled import link
from ingled.broker.hook_front import HookFront
from ingled.broker.host import Host
from ingled.broker.host_unit import HostUnit
from ingled.broker.hosts import Hosts
from ingled.broker.peer import Peer
from ingled.broker.router import Router

log = logging.getLogger(__name__)


def read(peer: Peer, frame: bytes) -> link.FromPeer | None:
    """Return the message of a peer; None, and a line in the log, when it cannot be read."""
    try:
        return link.decode_from_peer(frame)
    except (ValueError, RecursionError) as error:
        log.error("private socket: pid %d sent what cannot be read: %s", peer.pid, error)
        return None


class HostLink:
    """What hosts say, and what they are told."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hosts: Hosts,
        *,
        shared: Router,
        unit: HostUnit | None,
        secret: str,
        meet: Callable[[int, Callable[[], None]], None],
        lease: Callable[[], link.Lease],
    ) -> None:
        """`shared` is the workers' socket; with a `unit`, `secret` is that of a socket beside it."""
        self._hosts, self._unit, self._secret, self._lease = hosts, unit, secret, lease
        self.router = shared
        if unit is not None:
            self.router = Router(
                loop, self._receive, self.gone, meet=meet, frame_bytes=link.FRAME_BYTES, backlog_bytes=link.FRAME_BYTES
            )
        self._asked: set[int] = set()
        """Peers at the socket of their own that have been asked who they are, and have not said it yet."""
        self.hooks: HookFront
        """Set by the owner, before anything is received."""

    @property
    def apart(self) -> bool:
        """Return whether hosts have a socket of their own."""
        return self._unit is not None

    def send(self, peer: Peer, message: link.ToPeer) -> None:
        """Send to a host, or to the keeper."""
        self.router.send(peer, link.encode(message))

    def attached(self, peer: Peer, attach: link.Attach) -> None:
        """A host has come, and has shown that it may."""
        self._hosts.attached(peer, attach)

    def heard(self, peer: Peer, message: link.FromPeer) -> bool:
        """Take a message; returns whether it is of a host or the keeper."""
        if (host := self._hosts.by_peer(peer)) is not None:
            self._host(host, peer, message)
        elif self._unit is not None and peer is self._unit.keeper:
            if isinstance(message, link.Alive):
                self.send(peer, self._lease())
            else:
                self._unit.heard(message)
        else:
            return False
        return True

    def _host(self, host: Host, peer: Peer, message: link.FromPeer) -> None:
        self._hosts.heard(host)
        match message:
            case link.Alive():
                self.send(peer, self._lease())
            case link.Offers():
                self._hosts.offered(host, message.plugins)
            case link.HookReplies():
                for reply in message.replies:
                    self.hooks.reply(f"pid:{host.pid}", reply)
            case link.Stale():
                self._hosts.changed(host)
            case _:
                log.error("hook host %d sent what none sends: %s", host.pid, type(message).__name__)

    def gone(self, peer: Peer) -> None:
        """A link broke; whoever it was may come back."""
        self._hosts.gone(peer)
        self._asked.discard(peer.number)
        if self._unit is not None:
            self._unit.gone(peer)

    # ------------------------------------------------------------ the socket of their own

    def _receive(self, peer: Peer, frames: list[bytes]) -> None:
        message = read(peer, frames[0])
        if isinstance(message, link.Attach):
            self._asked.discard(peer.number)
            self._attach(peer, message)
        elif message is not None and not self.heard(peer, message) and peer.number not in self._asked:
            self._asked.add(peer.number)
            self.send(peer, link.Who())

    def _attach(self, peer: Peer, attach: link.Attach) -> None:
        assert self._unit is not None, "it has the socket"
        if attach.pid != peer.pid or not hmac.compare_digest(attach.secret, self._secret):
            log.error("socket of the hosts: pid %d (uid %d) is not who it says", peer.pid, peer.uid)
        elif attach.version != link.VERSION or attach.role not in ("host", "keeper"):
            log.error("socket of the hosts: pid %d is no host of this release: it is told to stop", peer.pid)
            self.send(peer, link.Stop())
        else:
            self.send(peer, self._lease())
            if attach.role == "host":
                self.attached(peer, attach)
            else:
                self._unit.attached(peer)
