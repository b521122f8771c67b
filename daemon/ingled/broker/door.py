"""Where connections come in: a few at once, none while descriptors are short, each with a time for its handshake."""

import asyncio
import errno
import logging
import select
import socket
from collections import OrderedDict
from collections.abc import Callable

from ingled.broker.descriptors import crowded, many
from ingled.broker.peer import Peer

log = logging.getLogger(__name__)

HANDSHAKE_S = 2.0
"""Seconds that a new connection has for its handshake."""

PAUSE_S = 0.2
"""Seconds until it is looked again whether there are descriptors for more connections."""

ACCEPTS = 8
"""Connections taken at once."""

SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What `accept` says when there is no room for a connection."""


class Door:
    """The listening socket of a `Router`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        poll: select.epoll,
        *,
        enter: Callable[[socket.socket], Peer],
        late: Callable[[Peer], None],
        rest_s: float,
    ) -> None:
        """`poll` tells when to `accept`, `enter` is given each connection, and `late` who is not through its handshake
        in time. Where there are always more connections, `rest_s` passes between two lots of them; 0: nobody rests.
        """
        self.held_back = 0
        """How often connections had to wait because there were too few file descriptors."""
        self._loop, self._listener, self._poll = loop, listener, poll
        self._enter, self._is_late, self._rest_s = enter, late, rest_s
        self._new: OrderedDict[Peer, float] = OrderedDict()
        """Connections that have not ended, and when their handshake has to be over, the earliest first."""
        self._looks = False
        """It is going to be looked who is late."""
        self._closed = False
        listener.setblocking(False)
        poll.register(listener, select.EPOLLIN)

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        self._listener.close()

    def accept(self) -> None:
        """Take connections; hold further ones back in the kernel while there are too few descriptors."""
        for _ in range(ACCEPTS):
            try:
                connection, _ = self._listener.accept()
                peer = self._enter(connection)
            except OSError as error:
                if error.errno in SHORT:
                    self._pause()
                return
            if not self._looks:
                self._looks = True
                self._loop.call_later(HANDSHAKE_S, self._late)
            self._new[peer] = self._loop.time() + HANDSHAKE_S
            if many(connection.fileno()):
                self._pause()
                return
        if self._rest_s:
            self._poll.unregister(self._listener)
            self._loop.call_later(self._rest_s, self._go_on)

    def gone(self, peer: Peer) -> None:
        """A connection has ended: nothing of it is kept, however many come and go within the time of a handshake."""
        self._new.pop(peer, None)

    def _late(self) -> None:
        """Tell of connections that have not come through their handshake."""
        if self._closed:
            return
        now = self._loop.time()
        while self._new:
            peer = next(iter(self._new))
            if self._new[peer] > now:
                self._loop.call_at(self._new[peer], self._late)
                return
            del self._new[peer]
            if not peer.protocol.ready:
                self._is_late(peer)
        self._looks = False

    def _pause(self) -> None:
        self.held_back += 1
        log.warning("too many connections for the limit of file descriptors: the next ones wait")
        self._poll.unregister(self._listener)
        self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        if crowded() and not self._closed:
            self._loop.call_later(PAUSE_S, self._resume)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Take connections again."""
        if not self._closed:
            self._poll.register(self._listener, select.EPOLLIN)
