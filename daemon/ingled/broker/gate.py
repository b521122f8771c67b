"""Who may connect: asked by libzmq for each connection, before anything of it is read (ZAP, RFC 27).

Everybody may whom the socket's mode lets in; but with a gate there is no way in for a peer of ZMTP 1.0, which has no
handshake and so no identity. It opens when it is known who the peer is (`people.py`).
"""

import asyncio
import os
import resource
from functools import partial

import zmq

from ingled.broker.people import People

DOMAIN = b"ingle"


class Gate:
    """Answers libzmq's questions; one for each context."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], loop: asyncio.AbstractEventLoop, people: People
    ) -> None:
        self._loop, self._people = loop, people
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)  # REP answers one after the other
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
                route, empty, version, request, _, address, *_ = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            let_in = partial(self._let_in, [route, empty, version, request, b"200", b"", b"", b""])
            uid = address.split(b":")[1:2]  # :uid:gid:pid, from SO_PEERCRED
            if uid and uid[0].isdigit():
                self._people.meet(int(uid[0]), let_in)
            else:
                let_in()  # whoever has no identity is dropped at the first message

    def _let_in(self, answer: list[bytes]) -> None:
        if not self._socket.closed:
            self._socket.send_multipart(answer)


def guard(socket: zmq.Socket[bytes]) -> None:
    """Let the context's gate be asked for every connection of this socket."""
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def backlog() -> int:
    """Return how many connections may wait to be accepted: libzmq may take them all before we can stop it."""
    return int(min(1024, _limit() // 4))


def crowded() -> bool:
    """Return whether so many file descriptors are in use that no more connections may be accepted.

    libzmq aborts the process at an accept for which there is none (libzmq #1306). The kernel gives the lowest free
    number, which tells how many are in use.
    """
    try:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(fd)
    return fd > _limit() // 3


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
