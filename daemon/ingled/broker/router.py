"""A ROUTER socket on a unix socket, driven by the event loop: who speaks, what to send, who has gone.

Plain zmq with `loop.add_reader`: three to four times the throughput of zmq.asyncio. The socket's file descriptor is
edge-triggered, so it is drained until EAGAIN, and looked at again after every send.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq
import zmq.backend
from zmq.utils.monitor import parse_monitor_message

from ingled.broker.gate import crowded, guard

log = logging.getLogger(__name__)

TURN_S = 0.0005
"""Seconds of reading in one turn of the loop, so that a flood leaves room for others."""

LOOK = 4
"""Messages read until libzmq is asked who else has something: by itself it looks only every hundred frames."""

EVENTS = 64
"""Beginnings and ends of connections taken in one turn of the loop."""

PAUSE_S = 0.2
"""Seconds until it is looked again whether there are descriptors for more connections."""

_send: Callable[[zmq.Socket[bytes], bytes, int], None] = zmq.backend.Socket.send
"""libzmq's send without what pyzmq does around it for sockets of other kinds: a quarter less for each message."""

RETRY_S = 0.001
"""Seconds until a full connection is tried again, at first; doubled up to the next."""
RETRY_MOST_S = 0.05


@dataclass(slots=True)
class Peer:
    """One connection: its routing id, its kernel-checked identity and what waits to be sent to it."""

    route: bytes
    address: str
    uid: int
    pid: int
    fd: int
    waiting: deque[tuple[bytes, int]] = field(default_factory=deque)
    """Messages, and how much each counts towards the bound."""
    waiting_bytes: int = 0
    dying: bool = False
    """Its connection has ended; what it sent before is still being read."""


class Router:
    """The shell around one ROUTER. `receive(peer, frames)` for each message, `gone(peer)` once at its end."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[Peer, list[zmq.Frame]], None],
        gone: Callable[[Peer], None],
        *,
        frame_bytes: int,
        queue: int,
        backlog_bytes: int,
    ) -> None:
        """`queue` messages wait for a peer in libzmq, and `backlog_bytes` here; who leaves more unread is dropped."""
        self.peers: dict[bytes, Peer] = {}
        self._by_fd: dict[int, Peer] = {}
        self.no_identity = 0
        self.clogged = 0
        self.held_back = 0
        """How often connections had to wait because there were too few file descriptors."""
        self._listener: socket.socket | None = None
        self._endpoint = ""
        self._paused = False
        self._loop, self._receive, self._gone = loop, receive, gone
        self._backlog_bytes = backlog_bytes
        self._full: set[bytes] = set()
        self._dying: list[Peer] = []
        self._scheduled = False
        self._closed = False
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._socket.linger = 200
        self._socket.router_mandatory = True
        self._socket.router_handover = False
        self._socket.maxmsgsize = frame_bytes
        self._socket.sndhwm = queue
        self._socket.rcvhwm = 256
        self._socket.handshake_ivl = 2000
        guard(self._socket)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_ACCEPTED)

    def listen(self, fd: int, path: str) -> None:
        """Take over a listening unix socket; its path is never unlinked here."""
        self._listener, self._endpoint = socket.socket(fileno=fd), f"ipc://{path}"
        self._open()
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._loop.add_reader(self._monitor.fileno(), self._readable)
        self._schedule()

    def _open(self) -> None:
        """Let libzmq accept connections, on a descriptor of its own for our socket."""
        assert self._listener is not None, "it listens"
        self._socket.setsockopt(zmq.USE_FD, os.dup(self._listener.fileno()))
        self._socket.bind(self._endpoint)

    def _accepted(self) -> None:
        """Hold further connections back in the kernel while there are too few descriptors."""
        if not self._paused and crowded():
            self._paused = True
            self.held_back += 1
            log.warning("too many connections for the limit of file descriptors: the next ones wait")
            self._socket.unbind(self._endpoint)
            self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._closed:
            return
        if crowded():
            self._loop.call_later(PAUSE_S, self._resume)
        else:
            self._paused = False
            self._open()

    def close(self) -> None:
        """Stop listening; messages on their way have 200 ms to leave. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()
        if self._listener is not None:
            self._listener.close()

    def send(self, peer: Peer, data: bytes, *, credited: bool = False) -> None:
        """Send a message, now or when the peer reads again; never blocks. Nothing is lost unless the peer is.

        A `credited` message is bounded by what its reader asked for, and does not count towards the backlog.
        """
        if self.peers.get(peer.route) is not peer or peer.dying or self._closed:
            return
        if peer.waiting or not self._try(peer, data):
            size = 0 if credited else len(data)
            peer.waiting.append((data, size))
            peer.waiting_bytes += size
            if peer.waiting_bytes > self._backlog_bytes:
                self.clogged += 1
                log.warning("pid %d (uid %d) does not read its answers: its connection is closed", peer.pid, peer.uid)
                _hang_up(peer.fd)
                self._drop(peer)
            elif peer.route not in self._full:
                if not self._full:
                    self._loop.call_later(RETRY_S, self._retry, RETRY_S)
                self._full.add(peer.route)
        self._schedule()

    def _try(self, peer: Peer, data: bytes) -> bool:
        try:
            _send(self._socket, peer.route, zmq.SNDMORE | zmq.NOBLOCK)
            _send(self._socket, data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._end(peer)
        return True

    def _retry(self, pause: float) -> None:
        if self._closed:
            return
        for route in list(self._full):
            peer = self.peers.get(route)
            while peer is not None and peer.waiting and self._try(peer, peer.waiting[0][0]):
                if peer.waiting:
                    peer.waiting_bytes -= peer.waiting.popleft()[1]
            if peer is None or not peer.waiting:
                self._full.discard(route)
        if self._full:
            pause = min(2 * pause, RETRY_MOST_S)
            self._loop.call_later(pause, self._retry, pause)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _readable(self) -> None:
        self._schedule()

    def _drain(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        until, count = time.perf_counter() + TURN_S, 0
        while time.perf_counter() < until:
            if count % LOOK == 0:
                self._socket.get(zmq.EVENTS)
            count += 1
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._bury()
                if self._drain_monitor(EVENTS):
                    self._schedule()
                return
            try:
                peer = self._peer(frames)
                if peer is not None:
                    self._receive(peer, frames[1:])
            except Exception:  # a bug of ours must not stop the reading
                log.exception("a bug of ingled: a message could not be handled")
        self._drain_monitor(EVENTS)
        os.sched_yield()  # libzmq's own thread may wait for this core, until the kernel's next tick: up to 4 ms
        self._schedule()

    def _peer(self, frames: list[zmq.Frame]) -> Peer | None:
        """Return who sent this, by what the kernel says of the connection; None when it says nothing."""
        route = frames[0].bytes
        try:
            address = str(frames[-1].get("Peer-Address"))
            peer = self.peers.get(route)
            if peer is not None and peer.address == address:
                return peer
            _, uid, _, pid = address.split(":")
        except (zmq.ZMQError, ValueError):  # a ZMTP/1.0 peer has no identity
            self.no_identity += 1
            return None
        # What the monitor tells of an earlier connection on this descriptor came before this message.
        self._drain_monitor()
        if (old := self.peers.get(route)) is not None:
            self._drop(old)  # the name is free for another only when nothing of the old one is left to read
        fd = int(frames[-1].get(zmq.SRCFD))
        peer = self.peers[route] = self._by_fd[fd] = Peer(route, address, int(uid), int(pid), fd)
        return peer

    def _drain_monitor(self, most: int | None = None) -> bool:
        """Take what has happened to connections, at `most` so many events; returns whether there may be more."""
        accepted, more = False, True
        while more and (most is None or most > 0):
            most = None if most is None else most - 1
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                more = False
                continue
            except zmq.ZMQError as error:
                if error.errno in (errno.ENOTSOCK, zmq.ETERM):
                    return False
                raise
            if event["event"] == zmq.EVENT_ACCEPTED:
                accepted = True
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                peer = self._by_fd.get(event["value"])
                if peer is not None:
                    self._end(peer)
        if accepted:
            self._accepted()
        return more

    def _end(self, peer: Peer) -> None:
        """The connection has ended; what the peer sent before, such as `bye`, is read first."""
        if not peer.dying:
            peer.dying = True
            if self._by_fd.get(peer.fd) is peer:
                del self._by_fd[peer.fd]
            self._dying.append(peer)
            self._schedule()

    def _bury(self) -> None:
        """Everything has been read that ended connections had sent."""
        while self._dying:
            self._drop(self._dying.pop())

    def _drop(self, peer: Peer) -> None:
        if self.peers.get(peer.route) is peer:
            del self.peers[peer.route]
            if self._by_fd.get(peer.fd) is peer:
                del self._by_fd[peer.fd]
            peer.waiting.clear()
            peer.waiting_bytes = 0
            self._gone(peer)


def _hang_up(fd: int) -> None:
    """Close a connection under libzmq, which has no call for it: it sees the end of the stream."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
