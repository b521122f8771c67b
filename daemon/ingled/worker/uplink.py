"""The worker's end of the private link: a plain DEALER on the loop, and the lease.

Sending never blocks and never drops: the socket's high-water mark is off. What may pile up while the broker is slow
or away is bounded elsewhere: chunks by the credit of each stream (a stream without limit, by what one answer may
hold), and everything by the lease, after which this process ends.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import cast

import zmq

from ingled import link

log = logging.getLogger(__name__)

FIRST_GRACE = 30.0
"""Seconds that the broker has for its first answer."""
TICK = 1.0
FLUSH_BYTES = 1 << 20
"""Most text in one message."""


class Uplink:
    """Sends what a turn of the loop produced as one message, and counts the silence of the broker."""

    def __init__(self, path: str, receive: Callable[[link.ToPeer], None], expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._expired = expired
        self._grace = FIRST_GRACE
        self._silence = 0.0
        self._pieces: list[link.Piece] = []
        self._bytes = 0
        self._after: list[link.FromPeer] = []
        self._flushing = False
        self._context = zmq.Context(1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.linger = 1000
        self._socket.probe_router = True  # a new broker asks who this is at once, and not at the next sign of life
        self._socket.reconnect_ivl = 100
        self._socket.reconnect_ivl_max = 1000
        self._socket.connect(f"ipc://{path}")
        # The loop watches a duplicate: closing the socket must not pull a descriptor from under its selector.
        self._watched = os.dup(cast(int, self._socket.getsockopt(zmq.FD)))
        self._loop.add_reader(self._watched, self._drain)

    @property
    def tick_s(self) -> float:
        """Return the time between two `tick`s."""
        return min(TICK, self._grace / 4)

    def tick(self) -> None:
        """Say that this worker lives, and look how long the broker has been silent.

        Silence counts in ticks, not by the clock: a process that was paused must not end when it goes on.
        """
        self.send(link.Alive())
        self._drain()
        self._silence += self.tick_s
        if self._silence > self._grace:
            self._expired()

    def piece(self, piece: link.Piece) -> None:
        """Send a chunk with all others of this turn."""
        self._pieces.append(piece)
        self._bytes += piece.size
        if self._bytes >= FLUSH_BYTES:
            self.flush()
        else:
            self._flush_soon()

    def after(self, message: link.FromPeer) -> None:
        """Send a message after the chunks of this turn."""
        self._after.append(message)
        self._flush_soon()

    def send(self, message: link.FromPeer) -> None:
        """Send a message now, after what waits."""
        self._after.append(message)
        self.flush()

    def flush(self) -> None:
        """Send all that waits."""
        self._flushing = False
        if self._pieces:
            self._put(link.Chunks(self._pieces))
            self._pieces, self._bytes = [], 0
        for message in self._after:
            self._put(message)
        self._after = []
        # Sending may take away the event that the descriptor tells (zmq_getsockopt, ZMQ_FD): look again.
        if cast(int, self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self._drain)

    def close(self) -> None:
        """Send what waits, for one second at most, and close."""
        if self._socket.closed:
            return
        self.flush()
        self._loop.remove_reader(self._watched)
        os.close(self._watched)
        self._socket.close()
        self._context.term()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        if self._flushing and not self._socket.closed:
            self.flush()

    def _put(self, message: link.FromPeer) -> None:
        self._socket.send(link.encode(message), zmq.NOBLOCK)

    def _drain(self) -> None:
        while not self._socket.closed:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._silence = 0.0
            try:
                message = link.decode_to_peer(frames[-1])
            except ValueError as error:
                log.error("message from the broker is unreadable: %s", error)
                continue
            if isinstance(message, link.Lease):
                self._grace = message.grace
            self._receive(message)
