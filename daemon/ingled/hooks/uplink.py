"""A hook host's end of the private link: many threads answer, and answers of one moment travel as one message."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from ingle.zmtp import Dealer
from msgspec import Raw, Struct

from ingled import link
from ingled.line import Line

BEAT_S = 0.25
"""Between two signs of life: they stop where a plugin does not let go of the interpreter lock."""
MESSAGE_BYTES = 4 << 20
"""No answer joins a message that is longer already."""

_encode = msgspec.msgpack.Encoder().encode


class PackedReplies(Struct, frozen=True, tag_field="t", tag="hook_replies"):
    """A `link.HookReplies` of replies that are packed already: what cannot be packed is found where it is made."""

    replies: list[Raw]


class Uplink(Line):
    """The line, for any thread. An answer goes to the broker that asked, or nowhere."""

    def __init__(self, runtime: Path, attached: Callable[[], None]) -> None:
        """`attached` is called when a broker may know nothing of this host."""
        super().__init__(runtime, "host", BEAT_S)
        self._attached = attached
        self._lock = threading.RLock()
        self._outbox: deque[tuple[Dealer | None, bytes]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def waiting(self) -> bool:
        """Return whether answers wait for `flush`."""
        return bool(self._outbox)

    def send(self, message: link.FromPeer) -> None:
        """Send now, or when a broker is there again."""
        with self._lock:
            super().send(message)
            self._rouse()

    def receive(self) -> list[link.ToPeer]:
        """Return what has arrived, without waiting."""
        with self._lock:
            if self.connection is not None and self.connection.wants_write:
                try:
                    self.connection.flush()
                except OSError as error:
                    self._lost(error)
            return super().receive()

    def tick(self) -> None:
        """Say that this process lives, reconnect if need be, and count silence."""
        with self._lock:
            before = self.connection
            super().tick()
            if self.connection is not before:
                self.rouse()

    def on_attach(self) -> None:
        """Tell the owner."""
        self._attached()

    def answer(self, asker: Dealer | None, reply: bytes) -> None:
        """Have a packed HookReply sent with the next `flush`."""
        self._outbox.append((asker, reply))

    def flush(self) -> None:
        """Send the answers that there are."""
        if not self._outbox:
            return
        with self._lock:
            batch: list[Raw] = []
            size = 0
            while self._outbox:
                asker, reply = self._outbox.popleft()
                # Another broker numbers its calls anew: an answer to the one before would be taken for another call's.
                if asker is None or asker is not self.connection:
                    continue
                batch.append(Raw(reply))
                size += len(reply)
                if size > MESSAGE_BYTES:
                    self._send_batch(batch)
                    batch, size = [], 0
            if batch:
                self._send_batch(batch)
            self._rouse()

    def wait(self, seconds: float | None, bell: int | None = None) -> None:
        """Wait until something has arrived or can be written, or `rouse` is called, or time is up, or until the
        descriptor `bell` can be read, which it is then not any more.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if bell is not None:
            poll.register(bell, select.POLLIN)
        with self._lock:  # an answer that finds the broker gone closes the connection
            if (connection := self.connection) is not None:
                poll.register(connection.fileno(), select.POLLIN | (select.POLLOUT if connection.wants_write else 0))
        for fd, _ in poll.poll(None if seconds is None else seconds * 1000):
            if fd in (self._wake, bell):
                with suppress(BlockingIOError):  # another thread has been quicker
                    os.eventfd_read(fd)

    def rouse(self) -> None:
        """End the `wait` of another thread."""
        os.eventfd_write(self._wake, 1)

    def _lost(self, error: OSError) -> None:
        super()._lost(error)
        self.rouse()  # who waits at the connection waits at nothing

    def _send_batch(self, batch: list[Raw]) -> None:
        if self.connection is not None:
            try:
                self.connection.send(_encode(PackedReplies(batch)))
            except OSError as error:
                self._lost(error)

    def _rouse(self) -> None:
        if self.connection is not None and self.connection.wants_write:
            self.rouse()
