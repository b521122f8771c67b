"""Who may connect at all: asked by libzmq for each connection, before anything of it is read (ZAP, RFC 27).

Without it a peer of ZMTP 1.0, which has no identity, would be let in; and libzmq would abort the process at the first
accept for which there is no file descriptor (libzmq #1306).
"""

import asyncio
import logging
import os
import resource

import zmq

log = logging.getLogger(__name__)

DOMAIN = b"ingle"
RESERVE = 64
"""File descriptors that are kept for the daemon itself."""


class Gate:
    """Answers libzmq's questions; one for each context."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], loop: asyncio.AbstractEventLoop) -> None:
        self.refused = 0
        self._loop = loop
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind("inproc://zeromq.zap.01")
        loop.add_reader(self._socket.fileno(), self._answer)

    def close(self) -> None:
        """Answer no more."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _answer(self) -> None:
        while True:
            try:
                version, request, *_ = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            room = self._has_room()
            self.refused += not room
            code, text = (b"200", b"") if room else (b"400", b"too many connections")
            self._socket.send_multipart([version, request, code, text, b"", b""])

    def _has_room(self) -> bool:
        """The kernel gives the lowest free number: it tells how many descriptors are in use."""
        try:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.close(fd)
        if fd >= self._most:
            log.warning("%d file descriptors are in use: a connection is refused", fd)
        return fd < self._most


def guard(socket: zmq.Socket[bytes]) -> None:
    """Let the context's gate be asked for every connection of this socket."""
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
