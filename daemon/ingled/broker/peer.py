"""One connection of a `Router`: who it is, as the kernel says, and what waits to be handled and to be sent."""

import socket
import struct
from collections import deque
from itertools import count

from ingle.zmtp import Frames, Zmtp

LUMP_BYTES = 1 << 16
"""Messages that wait to be sent are put together up to this size: a few large pieces are sent, and dropped, at once."""

_CREDENTIALS = struct.Struct("3i")
_numbers = count(1)


class Lump:
    """Bytes that wait to be sent, and how many of them count towards the bound."""

    __slots__ = ("counted", "data")

    def __init__(self, data: bytes, counted: int) -> None:
        self.data, self.counted = bytearray(data), counted


class Peer:
    """One connection: its number, who it is, and what waits to be sent to it."""

    __slots__ = (
        "behind",
        "connection",
        "ended",
        "flood",
        "left",
        "mask",
        "more",
        "needed",
        "number",
        "pid",
        "protocol",
        "taken_s",
        "uid",
        "unsent",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, connection: socket.socket, protocol: Zmtp) -> None:
        self.number = next(_numbers)
        """Never given twice, unlike its descriptor."""
        self.connection, self.protocol = connection, protocol
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, _ = _CREDENTIALS.unpack(found)
        self.behind: deque[Frames] = deque()
        """Messages that have been read, and wait for their turn."""
        self.taken_s = 0.0
        """Seconds of the loop's time that it has taken since it last had nothing more to say."""
        self.more = False
        """It had more to say when it was last heard: else what it took is forgotten."""
        self.flood = False
        """That was more than others should wait for: what it says now waits in the kernel."""
        self.mask = 0
        """What the kernel is asked to tell of it."""
        self.waiting: deque[Lump] = deque()
        """What is to be sent."""
        self.waiting_bytes = 0
        """As much of it counts towards the bound."""
        self.unsent = 0
        """As much of it is there in all."""
        self.needed = False
        """It answers questions of ours: it is heard, whatever it has not read."""
        self.left = False
        """It reads nothing more; what it sent before, such as `bye`, is still being read."""
        self.ended = False
        """Nothing more is read of it either; what has been read is still being handled."""
