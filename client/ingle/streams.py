"""What a session has open: its streams and how far each is, its calls, and what their messages look like. PURE: a part
of `ingle.session`.
"""

from __future__ import annotations

from ingle.errors import ProtocolError
from ingle.wire.codec import Message

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Self


class Arrival(tuple[int, Message]):
    """A message of the daemon and what it belongs to. No NamedTuple: `import typing` takes 10 ms."""

    __slots__ = ()

    def __new__(cls, ref: int, message: Message) -> Self:
        """Make one of both."""
        return super().__new__(cls, (ref, message))

    @property
    def ref(self) -> int:
        """The number of what it belongs to."""
        return self[0]

    @property
    def message(self) -> Message:
        """The message as it came."""
        return self[1]


class Stream:
    """A request, attach or subscription that has not ended."""

    __slots__ = ("accepted", "first", "freed", "id", "offset", "ref", "stopping", "waiting")

    def __init__(self, ref: int, first: Message) -> None:
        self.ref = ref
        self.first = first
        """The message that opened it."""
        self.id: str | None = first.get("id")
        self.accepted = False
        self.offset: int | None = first.get("offset") if first["t"] == "attach" else 0
        """How far the answer is here, in its UTF-8 bytes; None: from where the daemon still has it, which the first
        chunk tells.
        """
        self.waiting = 0
        """Chunks that have arrived and that nobody has taken."""
        self.freed = 0
        """Chunks taken for which no new credit has been given; below 0, so many are to be taken before any is. Credit
        at the daemon + waiting + freed = window.
        """
        self.stopping = False

    def opening(self, room: int) -> Message:
        """Return the message that opens it on a fresh connection: the first time, or from where it is.

        `room` is the window; what nobody has taken yet is in it, and may be more where this daemon allows less than
        the one before it.
        """
        credit = max(0, room - self.waiting)
        self.freed = min(0, room - self.waiting)
        if not self.accepted or self.first["t"] == "subscribe":
            self.accepted = False
            return self.first | {"credit": credit}
        again: Message = {"t": "attach", "ref": self.ref, "id": self.id, "credit": credit}
        return again if self.offset is None else again | {"offset": self.offset}

    def next(self, message: Message) -> Message | None:
        """Take a chunk; returns what is new of it, if anything is. Raises ProtocolError when text is missing."""
        at = message["o"]
        end = at + len(message.get("x", "").encode()) + len(message.get("r", "").encode())
        if self.offset is None:
            self.offset = at
        if at > self.offset:
            raise ProtocolError(f"request {self.id}: text from {self.offset} to {at} is missing")
        self.waiting += 1
        if at < self.offset:  # sent again after an attach
            if end <= self.offset:
                return None
            message = trim(message, self.offset - at)
        self.offset = end
        return message

    def took(self, room: int) -> bool:
        """One chunk or event was taken; returns whether it is time for new credit: half of the window is free."""
        if not self.waiting:
            return False
        self.waiting -= 1
        self.freed += 1
        return self.freed * 2 >= room

    @property
    def untouched(self) -> bool:
        """Nothing of a request has been seen: it can be asked again."""
        return self.first["t"] == "request" and self.offset == 0 and not self.stopping


class Call:
    """A question to the daemon that has not been answered."""

    __slots__ = ("message", "sent")

    def __init__(self, message: Message, sent: bool) -> None:
        self.message = message
        self.sent = sent
        """It went out on some connection, and may have been carried out."""


def trim(message: Message, cut: int) -> Message:
    """Return a chunk without its first `cut` bytes. Reasoning comes before text; token details are
    dropped.
    """
    reasoning, text = str(message.get("r", "")).encode(), str(message.get("x", "")).encode()
    rest: Message = {"t": "chunk", "id": message["id"], "o": message["o"] + cut}
    if cut < len(reasoning):
        rest["r"] = reasoning[cut:].decode()
    text = text[max(0, cut - len(reasoning)) :]
    if text:
        rest["x"] = text.decode()
    return rest


def failure(ref: int, code: str, message: str, hint: str, *, fault: str = "daemon", id: str | None = None) -> Arrival:
    """Return a `failed` that the daemon would have sent, had it been there."""
    failed: Message = {"t": "failed", "code": code, "message": message, "hint": hint, "fault": fault}
    return Arrival(ref, failed | ({"ref": ref} if id is None else {"id": id}))
