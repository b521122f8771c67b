"""The private link's end in a nursery, hook host or keeper: it reconnects by itself, and counts the broker's silence.

Without libzmq: its threads would make the nursery unfit to fork.
"""

import contextlib
import logging
import os
import time
from pathlib import Path

from ingle.zmtp import Dealer

from ingled import link

log = logging.getLogger(__name__)

FIRST_GRACE = 30.0
"""Seconds that the broker has for its first answer."""
TICK = 1.0
RETRY_S = 0.1
"""Between two looks whether a broker listens."""
LINGER_S = 1.0
"""For so long a process that leaves waits until it has said what it had to say."""
NEWS = link.Exited | link.Planned | link.HostStarted | link.HostNotStarted | link.HostEnded
"""What the next connection is told, if this one breaks before it has left."""
MOST_SILENT_STEP = 2.0
"""A longer step was this process being paused, or importing: the broker is not to blame for it."""


class Line:
    """A connection to whichever broker listens now."""

    def __init__(self, runtime: Path, role: str, beat: float = TICK) -> None:
        """`beat` is the most time between two signs of life, in seconds."""
        self.setup: link.Setup | None = None
        """What a host has been told to run."""
        self._role, self._beat = role, beat
        self.connection: Dealer | None = None
        self._runtime = runtime
        self._unsent: list[link.FromPeer] = []
        self._leaving: list[link.FromPeer] = []
        """What the connection has been given, and holds still: it waits for room, or for the end of the handshake."""
        self._grace = FIRST_GRACE
        self._silence = 0.0
        self._last = time.monotonic()
        self._alive_at = 0.0

    @property
    def expired(self) -> bool:
        """No broker has answered for as long as the lease says."""
        return self._silence > self._grace

    @property
    def tick_s(self) -> float:
        """Return the time between two `tick`s."""
        return min(self._beat, self._grace / 4) if self.connection is not None else RETRY_S

    def send(self, message: link.FromPeer) -> None:
        """Send now, or when a broker is there again."""
        self._unsent.append(message)
        self._send_all()

    def receive(self) -> list[link.ToPeer]:
        """Return what has arrived, without waiting."""
        if self.connection is None:
            return []
        try:
            messages = self.connection.receive()
        except OSError as error:
            self._lost(error)
            return []
        self._look_what_left(self.connection)
        found: list[link.ToPeer] = []
        for frames in messages:
            self._silence = 0.0
            try:
                message = link.decode_to_peer(frames[-1])
            except ValueError as error:
                log.error("message from the broker is unreadable: %s", error)
                continue
            match message:
                case link.Who():
                    self._attach()
                case link.Lease():
                    self._grace = message.grace
                case _:
                    found.append(message)
        return found

    def tick(self) -> None:
        """Say that this process lives, reconnect if need be, and count silence."""
        now = time.monotonic()
        self._silence += min(now - self._last, MOST_SILENT_STEP)
        self._last = now
        if self.connection is None:
            self._connect()
        elif now - self._alive_at >= self.tick_s * 0.9:
            self._alive_at = now
            self.send(link.Alive())

    def leave(self) -> None:
        """Close the connection when all has left that was said, or cannot leave any more."""
        until = time.monotonic() + LINGER_S
        while (dealer := self.connection) is not None and dealer.unsent and (left := until - time.monotonic()) > 0:
            dealer.wait(left)
            with contextlib.suppress(OSError):  # `receive` will tell
                dealer.flush()
            self.receive()
        self.close()

    def close(self) -> None:
        """Close the connection at once."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _connect(self) -> None:
        try:
            self.connection = Dealer(str(self._runtime / link.SOCKET_FILE), max_frame=link.FRAME_BYTES)
        except OSError as error:
            log.debug("no broker yet: %s", error)
            return
        log.info("connected to the broker")
        self._attach()

    def _attach(self) -> None:
        try:
            secret = (self._runtime / link.SECRET_FILE).read_text().strip()
        except OSError as error:
            self._lost(error)
            return
        self._unsent.insert(0, link.Attach(secret, self._role, os.getpid(), setup=self.setup))
        self._send_all()
        self.on_attach()

    def on_attach(self) -> None:
        """Be told that a broker may not know how it is with this process: set by the owner."""

    def _send_all(self) -> None:
        if self.connection is None:
            return
        try:
            while self._unsent:
                self._leaving.append(message := self._unsent.pop(0))
                self.connection.send(link.encode(message))
            self._look_what_left(self.connection)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the broker said before its end, such as `Stop`, is still to be read; then `receive` finds that
        except OSError as error:
            self._lost(error)

    def _look_what_left(self, connection: Dealer) -> None:
        if not connection.unsent:
            self._leaving.clear()

    def _lost(self, error: OSError) -> None:
        log.info("the broker has gone: %s", error)
        self.close()
        self._unsent = [message for message in (*self._leaving, *self._unsent) if isinstance(message, NEWS)]
        self._leaving.clear()
