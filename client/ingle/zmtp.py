"""A ZMTP 3 client in pure Python: what a libzmq DEALER does over a unix socket, without importing zmq (26
ms).

`Zmtp` is the protocol alone: bytes in, bytes out, no I/O. `Dealer` moves its bytes over a socket and never
blocks, except in `wait`. Mechanism NULL only: who the peer is, the kernel says. Beside the import time it
is also quicker for each message than libzmq, and its connect errors are real ones, where libzmq retries in
silence.
"""

import errno
import select

# The C module: `socket` would cost another 6 ms.
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from ingle.wire.limits import FRAME_BYTES

Frames = list[bytes]
"""One multipart message."""

MORE, LONG, COMMAND = 1, 2, 4
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READ_BYTES = 1 << 16
CONNECT_TIMEOUT = 5.0
FOREVER = float("inf")


class BrokenPeer(ConnectionError):
    """The other side does not speak ZMTP 3, or broke its rules."""


class Zmtp:
    """One connection's protocol state: give it what arrived, take from it what is to be sent."""

    def __init__(self, max_frame: int = FRAME_BYTES) -> None:
        self.outgoing = bytearray(GREETING)
        """Bytes to write; the owner deletes what it has written."""
        self.ready = False
        """The handshake is over."""
        self._max_frame = max_frame
        self._greeted = False
        self._incoming = bytearray()
        self._parts: Frames = []
        self._size = 0
        self._early = bytearray()  # libzmq closes the connection when a message comes before its READY

    def send(self, frames: Frames) -> None:
        """Queue one message."""
        out = self.outgoing if self.ready else self._early
        last = len(frames) - 1
        for index, frame in enumerate(frames):
            out += _header(MORE if index < last else 0, len(frame))
            out += frame

    def receive(self, data: bytes) -> list[Frames]:
        """Take bytes from the peer; returns the messages that are complete now. Raises BrokenPeer."""
        self._incoming += data
        messages: list[Frames] = []
        if not self._incoming or (not self._greeted and not self._greet()):
            return messages
        buffer, at = self._incoming, 0
        while True:
            head = 9 if len(buffer) > at and buffer[at] & LONG else 2
            if len(buffer) < at + head:
                break
            flags = buffer[at]
            size = buffer[at + 1] if head == 2 else int.from_bytes(buffer[at + 1 : at + 9], "big")
            if flags & ~(MORE | LONG | COMMAND) or self._size + size > self._max_frame:
                raise BrokenPeer(f"frame with flags {flags:#x} and {size} bytes")
            if len(buffer) < at + head + size:
                break
            body = bytes(buffer[at + head : at + head + size])
            at += head + size
            if flags & COMMAND:
                self._command(body)
            elif not self.ready:
                raise BrokenPeer("message before READY")
            else:
                self._parts.append(body)
                self._size += size
                if not flags & MORE:
                    messages.append(self._parts)
                    self._parts, self._size = [], 0
        del buffer[:at]
        return messages

    def _greet(self) -> bool:
        """Check the peer's greeting as far as it has come; returns True when it is complete."""
        seen = self._incoming
        if not seen.startswith(b"\xff") or (len(seen) > 9 and seen[9] != 0x7F):
            raise BrokenPeer(f"not a ZeroMQ socket: it said {bytes(seen[:16])!r}")
        if len(seen) < len(GREETING):
            return False
        if seen[10] < 3 or seen[12:32] != GREETING[12:32]:
            mechanism = bytes(seen[12:32]).rstrip(b"\0")
            raise BrokenPeer(f"ZMTP {seen[10]} with mechanism {mechanism!r}, not 3 with NULL")
        del seen[: len(GREETING)]
        self._greeted = True
        ready = b"\x05READY" + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", b"")
        self.outgoing += _header(COMMAND, len(ready)) + ready
        return True

    def _command(self, body: bytes) -> None:
        name, rest = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if name == b"READY" and not self.ready:
            self.ready = True
            self.outgoing += self._early
            self._early.clear()
        elif name == b"ERROR":
            raise BrokenPeer(f"refused: {rest[1:].decode(errors='replace')}")
        elif name == b"PING" and self.ready:
            pong = b"\x04PONG" + rest[2:]
            self.outgoing += _header(COMMAND, len(pong)) + pong
        elif not self.ready:
            raise BrokenPeer(f"command {name!r} before READY")


def _header(flags: int, size: int) -> bytes:
    if size < 256:
        return bytes((flags, size))
    return bytes((flags | LONG,)) + size.to_bytes(8, "big")


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


class Dealer:
    """A DEALER on a unix socket.

    Connecting raises what the kernel says: FileNotFoundError, PermissionError, ConnectionRefusedError. The
    handshake goes on by itself with each `receive`; what is sent before it is over waits for it.
    """

    def __init__(self, path: str, *, max_frame: int = FRAME_BYTES) -> None:
        self._protocol = Zmtp(max_frame)
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self._socket.settimeout(CONNECT_TIMEOUT)  # connect to a unix socket waits only for a full backlog
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
            self._socket.setblocking(False)
            self.flush()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for poll and for event loops."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Bytes wait for the socket to become writable."""
        return bool(self._protocol.outgoing)

    def send(self, *frames: bytes) -> None:
        """Queue one message and write as much as the socket takes."""
        self._protocol.send(list(frames))
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
        self.flush()
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
