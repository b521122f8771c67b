"""A ROUTER socket on a unix socket, driven by the event loop: who speaks, what to send, who has gone.

ZMTP by `ingle.zmtp`, and no thread beside the loop's: to wake libzmq's for each message, and be woken by it, costs more
than the message (`decisions/0004`). Who a peer is, the kernel says when it connects.
"""

import asyncio
import logging
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from ingle.zmtp import BrokenPeer, Frames, Zmtp, header

from ingled.broker.door import Door
from ingled.broker.peer import LUMP_BYTES, Lump, Peer
from ingled.broker.rota import Rota

log = logging.getLogger(__name__)

TURN_S = 0.00025
"""Seconds of reading in one turn of the loop, so that a flood leaves room for others."""

FLOOD_S = 0.0002
"""Seconds of it that floods may take: who comes meanwhile has to wait for the rest of them."""

LOOK_S = 0.0001
"""Seconds of a turn after which it is looked who else has something to say by now."""

EVENTS = 64
"""Connections looked at in one turn of the loop."""

READ_BYTES = 4096
LARGE_BYTES = 1 << 20
"""Read at once, and of a message that is known to be large."""

UNREAD_BYTES = 64 << 10
"""Bytes that wait here for a peer, beside what the kernel holds for it, with which it is not heard until it reads."""

PATIENCE_S = 0.01
"""Seconds of the loop's time that a connection may take without having said all it had to say: then it is a flood.

A hundred requests at once are none: a gateway, or an editor, sends them over one connection. Time that passes, though
the kernel may have given the core to others in it: to ask for the thread's own costs a system call for each message,
a microsecond for each chunk that is forwarded."""

REST_S = 0.001
"""Seconds between two turns of floods, and between two lots of connections where there are always more."""

LINGER_S = 0.2

KINDS = frozenset({b"DEALER", b"REQ", b"ROUTER"})
"""Sockets that may speak to a ROUTER (RFC 28)."""


class Router:
    """The shell around one ROUTER. `receive(peer, frames)` for each message, `gone(peer)` once at its end.

    `receive` may return True: the message was asked for, as the answer to a question of ours. Then it tries nobody's
    patience, for whoever asks gets no more than was asked for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[Peer, Frames], bool | None],
        gone: Callable[[Peer], None],
        *,
        meet: Callable[[int, Callable[[], None]], None],
        frame_bytes: int,
        backlog_bytes: int,
        rest_s: float = 0.0,
    ) -> None:
        """Nothing of a peer is read before `meet`, which is given its uid, has called back.

        `backlog_bytes` wait for a peer here; who leaves more unread is dropped. `rest_s` is for a socket of strangers:
        floods rest for so long after each of their turns, in which the loop sleeps, and whoever else has something to
        say wakes it; and who does not read is not heard either. 0: peers are trusted.
        """
        self.no_identity = 0
        """Connections that did not get through their handshake."""
        self.clogged = 0
        self._loop, self._receive, self._gone, self._meet = loop, receive, gone, meet
        self._frame_bytes, self._backlog_bytes = frame_bytes, backlog_bytes
        self._door: Door | None = None
        self._poll = select.epoll()
        self._by_fd: dict[int, Peer] = {}
        self._rest_s = rest_s
        self._behind: Rota[Peer] = Rota()
        """Peers of which there are messages to handle, or whose end is."""
        self._floods: Rota[Peer] = Rota()
        """Those of them that have tried our patience."""
        self._floods_at = 0.0
        """When they have their next turn."""
        self._events: deque[tuple[Peer | None, int]] = deque()
        """What the kernel has told and nobody has looked at yet."""
        self._scheduled = self._waking = False
        self._closed = False

    def listen(self, fd: int) -> None:
        """Take over a listening unix socket; its path is never unlinked here."""
        self._door = Door(
            self._loop,
            socket.socket(fileno=fd),
            self._poll,
            enter=self._enter,
            late=self._end,
            rest_s=self._rest_s,
        )
        self._loop.add_reader(self._poll.fileno(), self._told)

    @property
    def held_back(self) -> int:
        """Return how often connections had to wait because there were too few file descriptors."""
        return 0 if self._door is None else self._door.held_back

    def close(self) -> None:
        """Stop listening; messages on their way have 200 ms to leave. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        until = time.monotonic() + LINGER_S
        for peer in self._by_fd.values():
            peer.connection.settimeout(max(0.0, until - time.monotonic()))
            try:
                for lump in peer.waiting:
                    peer.connection.sendall(lump.data)
            except OSError:
                pass
            peer.left = peer.ended = True
            peer.connection.close()
        self._by_fd.clear()
        if self._door is not None:
            self._door.close()

    # ------------------------------------------------------------ out

    def send(self, peer: Peer, message: bytes, *more: bytes, credited: bool = False) -> None:
        """Send messages, now or when the peer reads again; never blocks. Nothing is lost unless the peer is.

        `credited` ones are bounded by what their reader asked for, and do not count towards the backlog.
        """
        if peer.left:
            return
        data = header(0, len(message)) + message
        if more:
            data = b"".join((data, *(part for one in more for part in (header(0, len(one)), one))))
        self._put(peer, data, 0 if credited else len(data))

    def _put(self, peer: Peer, data: bytes, size: int) -> None:
        if not peer.waiting:
            try:
                sent = peer.connection.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                peer.left = True
                return
            if sent == len(data):
                return
            data = data[sent:]
        if peer.waiting and len(last := peer.waiting[-1].data) + len(data) <= LUMP_BYTES:
            last += data
            peer.waiting[-1].counted += size
        else:
            peer.waiting.append(Lump(data, size))
        peer.waiting_bytes += size
        peer.unsent += len(data)
        self._watch(peer)
        if peer.waiting_bytes > self._backlog_bytes:
            self.clogged += 1
            peer.behind.clear()
            log.warning("pid %d (uid %d) does not read its answers: its connection is closed", peer.pid, peer.uid)
            self._end(peer)

    def _flush(self, peer: Peer) -> None:
        """Send what waits, as far as the peer takes it."""
        waiting = peer.waiting
        while waiting:
            lump = waiting[0]
            try:
                sent = peer.connection.send(lump.data)
            except BlockingIOError:
                break
            except OSError:
                peer.left = True
                waiting.clear()
                peer.waiting_bytes = peer.unsent = 0
                break
            peer.unsent -= sent
            if sent < len(lump.data):
                del lump.data[:sent]
                break
            waiting.popleft()
            peer.waiting_bytes -= lump.counted
        self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        """Have the kernel tell what matters of a peer now."""
        mask = 0 if peer.flood or self._unread(peer) else select.EPOLLIN
        if peer.waiting and not peer.left:
            mask |= select.EPOLLOUT
        if mask == peer.mask or peer.ended:
            return
        if not peer.mask:
            self._poll.register(peer.connection, mask)
        elif not mask:
            self._poll.unregister(peer.connection)
        else:
            self._poll.modify(peer.connection, mask)
        peer.mask = mask

    # ------------------------------------------------------------ in

    def _told(self) -> None:
        """The kernel has news: a turn that is due anyway sees it too; a second one would keep the loop from others."""
        if not self._scheduled:
            self._turn()

    def _due(self) -> None:
        """The turn that was scheduled is due."""
        self._scheduled = False
        self._turn()

    def _turn(self) -> None:
        """Read and handle for a while; what is left has the next turn of the loop."""
        if self._closed:
            return
        events, flooded = self._events, False
        now = look_at = time.perf_counter()
        until = now + TURN_S
        floods_until = until
        while now <= until and not self._closed:
            if not events and now >= look_at:
                events.extend((self._by_fd.get(fd), event) for fd, event in self._poll.poll(0, EVENTS))
                look_at = now + LOOK_S
            if events:
                before, (peer, event) = now, events.popleft()
                self._look(peer, event)
                now = time.perf_counter()
                if peer is not None:
                    peer.taken_s = peer.taken_s + now - before if peer.more else 0.0
                continue
            peer = self._behind.next()
            if peer is None and self._floods_at <= now <= floods_until:
                peer = self._floods.next()
                if peer is not None and not flooded:
                    flooded, floods_until = True, now + FLOOD_S
            if peer is None:
                break
            before = now
            asked = self._handle(peer)
            now = time.perf_counter()
            if not peer.more:
                peer.taken_s = 0.0
            elif not asked:
                peer.taken_s += now - before
        if flooded:
            self._floods_at = now + self._rest_s
        self._schedule()
        if self._floods and not self._waking:
            self._waking = True
            self._loop.call_later(max(0.0, self._floods_at - now), self._wake)

    def _wake(self) -> None:
        """The floods have rested."""
        self._waking = False
        if not self._scheduled:
            self._turn()

    def _schedule(self) -> None:
        if (self._events or self._behind) and not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._due)

    def _line_up(self, peer: Peer) -> None:
        """There is something to handle of this peer, in its turn."""
        if not peer.flood and self._trying(peer):
            peer.flood = True
            self._watch(peer)
        (self._floods if peer.flood else self._behind).add(peer.uid, peer.pid, peer)

    def _look(self, peer: Peer | None, event: int) -> None:
        """Something can be done with this connection; None: there is a new one."""
        if peer is None:
            assert self._door is not None, "it listens"
            self._door.accept()
            return
        if peer.waiting and not peer.left:
            self._flush(peer)
        if event & ~select.EPOLLOUT and not peer.ended and not peer.behind and not peer.flood:
            self._hear(peer)

    def _hear(self, peer: Peer) -> None:
        """Take in what a peer says, and give it a turn where that is a message, or more than others should wait for."""
        if self._unread(peer):
            peer.flood = False
            self._watch(peer)  # for when it has read
            return
        more = peer.more = self._read(peer)
        if peer.behind or (more and not peer.ended and self._trying(peer)):
            self._line_up(peer)
            return
        if peer.flood:  # what it says next, the kernel tells
            peer.flood = False
            self._watch(peer)

    def _unread(self, peer: Peer) -> bool:
        """Return whether a peer does not read: then what it says waits in the kernel, and costs nobody anything."""
        return bool(self._rest_s) and peer.unsent > UNREAD_BYTES and not peer.needed

    def _trying(self, peer: Peer) -> bool:
        """Return whether a peer tries our patience."""
        return bool(self._rest_s) and peer.taken_s > PATIENCE_S

    def _read(self, peer: Peer) -> bool:
        """Read what a peer says; returns False when it has nothing more to say now."""
        protocol = peer.protocol
        try:
            data = peer.connection.recv(max(READ_BYTES, min(protocol.missing, LARGE_BYTES)))
            messages = protocol.receive(data)
        except BlockingIOError:
            return False
        except BrokenPeer as error:
            self.no_identity += not protocol.ready
            log.debug("pid %d (uid %d) does not speak ZMTP: %s", peer.pid, peer.uid, error)
            self._end(peer)
            return True
        except OSError:
            self._end(peer)
            return True
        if not data:
            self._end(peer)
        elif protocol.outgoing:  # its handshake, or an answer to a heartbeat
            self._say(peer)
        peer.behind.extend(messages)
        return bool(messages) or protocol.missing > 0 or peer.ended

    def _handle(self, peer: Peer) -> bool:
        """Take one message of a peer; the next one comes after the others'. Returns whether it was asked for."""
        asked: bool | None = False
        if peer.behind:
            frames = peer.behind.popleft()
            try:
                asked = self._receive(peer, frames)
            except Exception:  # a bug of ours must not stop the reading
                log.exception("a bug of ingled: a message could not be handled")
        if peer.behind:
            self._line_up(peer)
        elif peer.ended:
            self._drop(peer)
        else:
            self._hear(peer)
        return bool(asked)

    def _say(self, peer: Peer) -> None:
        """Send what the protocol has to say."""
        data = bytes(peer.protocol.outgoing)
        peer.protocol.outgoing.clear()
        self._put(peer, data, len(data))

    # ------------------------------------------------------------ the beginning and the end of a connection

    def _enter(self, connection: socket.socket) -> Peer:
        """Somebody has come. Raises OSError if the kernel does not tell who."""
        peer = Peer(connection, Zmtp(self._frame_bytes, kind=b"ROUTER", peers=KINDS))
        connection.setblocking(False)
        self._by_fd[connection.fileno()] = peer
        self._meet(peer.uid, partial(self._met, peer))
        return peer

    def _met(self, peer: Peer) -> None:
        """It is known who this is: what it says counts."""
        if not peer.ended and not self._closed:
            self._watch(peer)
            self._say(peer)

    def _end(self, peer: Peer) -> None:
        """The connection is over; what has been read of it is handled first."""
        if peer.ended:
            return
        if peer.mask:
            self._poll.unregister(peer.connection)
            peer.mask = 0
        peer.left = peer.ended = True
        if not peer.behind:
            self._behind.add(peer.uid, peer.pid, peer)
        self._schedule()

    def _drop(self, peer: Peer) -> None:
        if self._by_fd.get(fd := peer.connection.fileno()) is peer:
            del self._by_fd[fd]
            peer.waiting.clear()
            peer.connection.close()
            if self._door is not None:
                self._door.gone(peer)
            self._gone(peer)
