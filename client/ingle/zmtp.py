"""ZMTP 3 in pure Python: what libzmq does over a unix socket, without importing zmq (26 ms) and without its threads.

`Zmtp` is the protocol alone: bytes in, bytes out, no I/O; the daemon's ROUTER uses it too. `Dealer` moves its
bytes over a socket and never blocks, except in `wait`. Mechanism NULL only: who the peer is, the kernel says.
Beside the import time it is also quicker for each message than libzmq, and its connect errors are real ones,
where libzmq retries in silence.
"""

from __future__ import annotations

import errno
import select

# The C module: `socket` would cost another 6 ms.
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from time import monotonic, sleep

from ingle.wire.limits import FRAME_BYTES

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Frames = list[bytes]
"""One multipart message."""

MORE, LONG, COMMAND = 1, 2, 4
PARTS = 64
"""Most frames of one message."""
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READ_BYTES = 1 << 16
CONNECT_TIMEOUT, CONNECT_PAUSE = 5.0, 0.01
FOREVER = float("inf")


class BrokenPeer(ConnectionError):
    """The other side does not speak ZMTP 3, or broke its rules."""


class Zmtp:
    """One connection's protocol state: give it what arrived, take from it what is to be sent."""

    def __init__(self, max_frame: int = FRAME_BYTES, *, kind: bytes = b"DEALER", peers: Collection[bytes] = ()) -> None:
        """`kind` of socket this is; `peers` that it takes, where it does not take all. A message has `max_frame`
        bytes at most, in all of its frames together.
        """
        self.outgoing = bytearray(GREETING)
        """Bytes to write; the owner deletes what it has written."""
        self.ready = False
        """The handshake is over."""
        self.missing = 0
        """Bytes that a frame which has begun to arrive lacks."""
        self._max_frame, self._kind, self._peers = max_frame, kind, peers
        self._greeted = False
        self._begun = bytearray()
        """What has arrived and not been taken: the beginning of a frame."""
        self._parts: Frames = []
        self._size = 0
        self._early = bytearray()  # libzmq closes the connection when a message comes before its READY

    @property
    def unsent(self) -> bool:
        """Something waits to be written, or for the end of the handshake."""
        return bool(self.outgoing or self._early)

    def send(self, frames: Frames) -> None:
        """Queue one message."""
        out = self.outgoing if self.ready else self._early
        last = len(frames) - 1
        for index, frame in enumerate(frames):
            out += header(MORE if index < last else 0, len(frame))
            out += frame

    def receive(self, data: bytes) -> list[Frames]:
        """Take bytes from the peer; returns the messages that are complete now. Raises BrokenPeer."""
        messages: list[Frames] = []
        if len(data) < self.missing:
            self._begun += data
            self.missing -= len(data)
            return messages
        if self._begun:
            self._begun += data
            data = bytes(self._begun)
            self._begun.clear()
        at = 0 if self._greeted else self._greet(data)
        end, self.missing = len(data), 0
        while self._greeted and end - at >= 2:
            flags = data[at]
            if flags & LONG:
                if end - at < 9:
                    break
                size, start = int.from_bytes(data[at + 1 : at + 9], "big"), at + 9
            else:
                size, start = data[at + 1], at + 2
            if flags & ~(MORE | LONG | COMMAND) or self._size + size > self._max_frame or len(self._parts) == PARTS:
                raise BrokenPeer(f"frame {len(self._parts)} of a message with flags {flags:#x} and {size} bytes")
            if end - start < size:
                self.missing = start + size - end
                break
            at = start + size
            body = data[start:at]
            if flags & COMMAND:
                self._command(body)
            elif not self.ready:
                raise BrokenPeer("message before READY")
            elif flags & MORE:
                self._parts.append(body)
                self._size += size
            else:
                messages.append([*self._parts, body])
                if self._parts:
                    self._parts, self._size = [], 0
        if at < end:
            self._begun += data[at:]
        return messages

    def _greet(self, seen: bytes) -> int:
        """Check the peer's greeting as far as it has come; returns its length when it is complete, and 0 before."""
        if seen and (not seen.startswith(b"\xff") or (len(seen) > 9 and seen[9] != 0x7F)):
            raise BrokenPeer(f"not a ZeroMQ socket: it said {seen[:16]!r}")
        if len(seen) < len(GREETING):
            return 0
        if seen[10] < 3 or seen[12:32] != GREETING[12:32]:
            mechanism = seen[12:32].rstrip(b"\0")
            raise BrokenPeer(f"ZMTP {seen[10]} with mechanism {mechanism!r}, not 3 with NULL")
        self._greeted = True
        ready = b"\x05READY" + _property(b"Socket-Type", self._kind) + _property(b"Identity", b"")
        self.outgoing += header(COMMAND, len(ready)) + ready
        return len(GREETING)

    def _command(self, body: bytes) -> None:
        name, rest = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if name == b"READY" and not self.ready:
            if self._peers and (kind := _kind(rest)) not in self._peers:
                raise BrokenPeer(f"its socket is of the kind {kind!r}")
            self.ready = True
            self.outgoing += self._early
            self._early.clear()
        elif name == b"ERROR":
            raise BrokenPeer(f"refused: {rest[1:].decode(errors='replace')}")
        elif name == b"PING" and self.ready:
            pong = b"\x04PONG" + rest[2:]
            self.outgoing += header(COMMAND, len(pong)) + pong
        elif not self.ready:
            raise BrokenPeer(f"command {name!r} before READY")


def header(flags: int, size: int) -> bytes:
    """Return what goes before a frame."""
    if size < 256:
        return bytes((flags, size))
    return bytes((flags | LONG,)) + size.to_bytes(8, "big")


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def _kind(properties: bytes) -> bytes:
    """Return the socket type that a READY tells."""
    at = 0
    while at < len(properties):
        value = at + 1 + properties[at]
        end = value + 4 + int.from_bytes(properties[value : value + 4], "big")
        if properties[at + 1 : value].lower() == b"socket-type":
            return properties[value + 4 : end]
        at = end
    return b""


class Dealer:
    """A DEALER on a unix socket.

    Connecting raises what the kernel says: FileNotFoundError, PermissionError, ConnectionRefusedError. The
    handshake goes on by itself with each `receive`; what is sent before it is over waits for it.
    """

    def __init__(self, path: str, *, max_frame: int = FRAME_BYTES) -> None:
        self._protocol = Zmtp(max_frame)
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._connect("\0" + path[1:] if path.startswith("@") else path)
            self.flush()
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, address: str) -> None:
        until = monotonic() + CONNECT_TIMEOUT
        while True:
            try:
                self._socket.connect(address)
                return
            except BlockingIOError:  # more wait to be accepted than the daemon lets wait
                if monotonic() > until:
                    raise
                sleep(CONNECT_PAUSE)

    def fileno(self) -> int:
        """Return the descriptor, for poll and for event loops."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Bytes wait for the socket to become writable."""
        return bool(self._protocol.outgoing)

    @property
    def unsent(self) -> bool:
        """Something that was sent has not left: it waits for room, or for the end of the handshake."""
        return self._protocol.unsent

    def send(self, *frames: bytes) -> None:
        """Queue one message and write as much as the socket takes."""
        self._protocol.send(list(frames))
        self.flush()

    def send_all(self, messages: Iterable[bytes]) -> None:
        """Queue messages of one frame each, and write as much as the socket takes, all at once."""
        for message in messages:
            self._protocol.send([message])
        self.flush()

    def flush(self) -> None:
        """Write as much as the socket takes. Raises OSError when the peer has gone."""
        outgoing = self._protocol.outgoing
        while outgoing:
            try:
                written = self._socket.send(outgoing)
            except BlockingIOError:
                return
            del outgoing[:written]

    def receive(self) -> list[Frames]:
        """Return the messages that have arrived, without waiting. Raises OSError when the peer has gone."""
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the daemon closed the connection")
        messages = self._protocol.receive(data)
        try:
            self.flush()
        except OSError:
            if not messages:  # what the peer said before its end counts: the next call finds that
                raise
        return messages

    def wait(self, timeout: float | None = None, bell: int | None = None) -> bool:
        """Wait until there is something to read or room to write what is queued; False when time is up, or when only
        the descriptor `bell` can be read.
        """
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | (select.POLLOUT if self.wants_write else 0))
        if bell is not None:
            poll.register(bell, select.POLLIN)
        ready = poll.poll(None if timeout is None or timeout == FOREVER else max(0, timeout * 1000))
        return any(descriptor != bell for descriptor, _ in ready)

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        self._socket.close()
