"""The text of running requests: who has read how far, and who may send more. Pure, mutable, no task for a chunk.

A stream is a list of chunks that its reader has not acknowledged. A chunk goes out while the reader has credit; the
worker may send as many as the reader's credit leaves room for, so that text waits in the engine, where it is merged,
and not here. Offsets count UTF-8 bytes (docs/protocol.md, section 4).

A watched stream is held whole, here and at its worker. If its text passes chunk handlers, what the engine made goes to
them and what they give out is `put`: the offsets of the engine and those of the reader are two accounts then.
"""

from dataclasses import dataclass, field

from ingle.wire.codec import pack, unpack
from ingle.wire.limits import CHUNK_BYTES, CREDIT

UNLIMITED = 1 << 30
"""What a worker may send of a stream that is kept whole: as much as it likes."""

CHUNK_OVERHEAD = 160
"""What a held chunk takes beside its bytes."""

Sends = list[tuple[int, bytes]]
"""Connections and the messages to send to each, in order."""


class BadOffset(ValueError):
    """An attach asked for text that is forgotten or does not exist yet."""


@dataclass(slots=True)
class Stream:
    """One answer on its way."""

    id: str
    account: str
    conn: int | None
    credit: int
    """Chunks that the reader can take."""
    keep: bool
    """All text is held until the stream is dropped, whatever is acknowledged."""
    worker: str | None = None
    allowed: int = 0
    """Chunks that the worker may still send."""
    end: int = 0
    """Offset behind the last byte produced."""
    tokens: list[int] = field(default_factory=list)
    """Ids of the tokens behind that text: another engine can go on from there."""
    chunks: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Chunks not yet forgotten: offset, size and message of each."""
    next: int = 0
    """Index in `chunks` of the first that has not been sent to the present reader."""
    closing: bytes | None = None
    closed: bool = False
    """The end has been sent to the present reader."""
    made: int = 0
    """Offset behind the last byte that the engine made: `end`, unless handlers change the text."""
    watched: bool = False
    through: bool = False
    """Its text passes chunk handlers."""
    shown: bool = False
    """Its text goes out as the engine made it, and handlers on trial get a copy."""
    raw: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Of a watched stream all chunks of the engine."""
    inside: int = 0
    """Chunks that are with the handlers."""
    complete: bool = False
    """The last tokens of the answer have come, without text."""
    skip: int = 0
    """The reader has all below this offset: it came back before the handlers had given it out again."""

    @property
    def begin(self) -> int:
        """Offset of the first byte that is still held."""
        return self.chunks[0][0] if self.chunks else self.end

    @property
    def of_engine(self) -> list[tuple[int, int, bytes]]:
        """Return what the engine made and nobody has acknowledged to it: offset, size and message of each chunk."""
        return self.raw if self.watched else self.chunks

    def send(self, sends: Sends) -> bool:
        """Add what may go out now; returns True when that includes the end."""
        conn = self.conn
        if conn is None:
            return False
        while self.next < len(self.chunks) and self.credit > 0:
            sends.append((conn, self.chunks[self.next][2]))
            self.next += 1
            self.credit -= 1
        if self.closing is not None and not self.closed and self.next == len(self.chunks):
            sends.append((conn, self.closing))
            self.closed = True
            return True
        return False

    def forget(self, ack: int) -> None:
        """Drop sent chunks that the reader has in full."""
        if self.keep:
            return
        done = 0
        while done < self.next and self.chunks[done][0] + self.chunks[done][1] <= ack:
            done += 1
        if done:
            del self.chunks[:done]
            self.next -= done

    def grant(self) -> int:
        """Return how many more chunks the worker may send, and count them as allowed."""
        more = self.credit - (len(self.chunks) - self.next) - self.allowed - self.inside
        if more <= 0 or self.closing is not None:
            return 0
        self.allowed += more
        return more


class Flow:
    """All streams. Every call returns what to send at once."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}

    def open(self, id: str, account: str, conn: int, credit: int, keep: bool) -> None:
        """Begin a stream."""
        self.streams[id] = Stream(id, account, conn, credit, keep)

    def adopt(self, id: str, account: str, worker: str | None, keep: bool, offset: int, tokens: list[int]) -> None:
        """Take over a stream of an earlier broker; what is held of it from `offset` on follows as chunks."""
        stream = self.streams[id] = Stream(id, account, None, 0, keep, worker)
        stream.end = stream.made = offset
        stream.tokens = tokens
        stream.allowed = UNLIMITED if keep else 0

    def run(self, id: str, worker: str) -> Stream:
        """The request runs on this worker now; the stream says with which credit, and behind which tokens."""
        stream = self.streams[id]
        stream.worker = worker
        room = stream.credit - (len(stream.chunks) - stream.next) - stream.inside
        stream.allowed = UNLIMITED if stream.keep else max(0, room)
        return stream

    def watch(self, id: str, through: bool, shown: bool = False) -> None:
        """Hold the stream whole from now on; `through`: its text passes handlers; `shown`: they get a copy of it."""
        stream = self.streams[id]
        stream.watched, stream.through, stream.shown = True, through, shown

    def chunk(self, id: str, offset: int, size: int, tokens: list[int], message: bytes, sends: Sends) -> str | None:
        """Take a chunk from the worker; chunks of streams that were cut, and chunks sent again, are dropped.

        Returns its text where that is for handlers.
        """
        stream = self.streams.get(id)
        if stream is None or stream.closing is not None or offset != stream.made:
            return None
        if not size:
            if stream.complete:
                return None
            stream.complete = True
        stream.made += size
        stream.tokens += tokens
        if not message:
            return None
        stream.allowed = max(0, stream.allowed - 1)
        if not size and stream.through:  # handlers see text, and details of tokens do not pass them
            return None
        if stream.watched:
            stream.raw.append((offset, size, message))
            if stream.through:
                stream.inside += 1
                return _text(message)
        stream.chunks.append((offset, size, message))
        stream.end += size
        if stream.conn is not None and stream.credit > 0 and stream.next == len(stream.chunks) - 1:
            sends.append((stream.conn, message))  # the hot path: nothing waits before it
            stream.next += 1
            stream.credit -= 1
        elif stream.conn is not None:
            stream.send(sends)
        return _text(message) if stream.shown else None

    def put(self, id: str, text: str, sends: Sends) -> None:
        """Take text for the reader that no engine has sent so: of handlers, or of a filter that answered."""
        stream = self.streams.get(id)
        if stream is None or stream.closing is not None:
            return
        data, at = text.encode(), 0
        while at < len(data):
            stop = min(at + CHUNK_BYTES, len(data))
            if stream.end + at < stream.skip < stream.end + stop:
                stop = stream.skip - stream.end
            while stop < len(data) and data[stop] & 0xC0 == 0x80:  # not inside a character
                stop -= 1
            piece, offset = data[at:stop], stream.end + at
            message = pack({"t": "chunk", "id": id, "o": offset, "x": piece.decode()})
            stream.chunks.append((offset, len(piece), message))
            if offset + len(piece) <= stream.skip:
                stream.next = len(stream.chunks)
            at = stop
        stream.end += len(data)
        stream.forget(stream.skip)
        stream.send(sends)

    def settle(self, id: str) -> int | None:
        """The handlers have nothing of this stream any more; returns the credit to pass on to the worker."""
        stream = self.streams.get(id)
        if stream is None or not stream.through:
            return None
        stream.inside = 0
        return stream.grant()

    def text(self, id: str) -> str:
        """Return all that the engine has made of a watched stream."""
        stream = self.streams.get(id)
        return "" if stream is None else "".join(_text(message) for _, _, message in stream.raw)

    def credit(self, conn: int, id: str, n: int, ack: int) -> tuple[Sends, int | None, bool]:
        """The reader can take `n` more and has all up to `ack`.

        Returns what to send, the credit to pass on to the worker, and whether the end went out. Credit for a stream
        that does not exist (any more) or that somebody else reads changes nothing: None.
        """
        stream = self.streams.get(id)
        if stream is None or stream.conn != conn:
            return [], None, False
        sends: Sends = []
        stream.credit = min(CREDIT, stream.credit + n)
        stream.forget(ack)
        ended = stream.send(sends)
        return sends, stream.grant(), ended

    def close(self, id: str, message: bytes) -> tuple[Sends, bool]:
        """The end of a stream: sent behind its last chunk. Returns what to send and whether the end went out."""
        stream = self.streams[id]
        stream.closing = message
        sends: Sends = []
        return sends, stream.send(sends)

    def cut(self, id: str) -> int | None:
        """Forget a stream now; returns the connection that reads it and has not been told its end."""
        stream = self.streams.pop(id, None)
        return None if stream is None or stream.closed else stream.conn

    def detach(self, id: str) -> None:
        """Nobody reads the stream for now."""
        stream = self.streams.get(id)
        if stream is not None:
            stream.conn = None
            stream.credit = 0

    def check_offset(self, id: str, offset: int) -> None:
        """Raise BadOffset unless an attach at this offset can be served."""
        stream = self.streams[id]
        if stream.through and offset > stream.end and stream.closing is None:
            return  # the handlers give it out once more, after the death of a daemon
        if not stream.begin <= offset <= stream.end:
            raise BadOffset(f"text from offset {stream.begin} to {stream.end} is held, not from {offset}")
        for at, size, message in stream.chunks:
            if at < offset < at + size:
                _tail(message, offset - at, offset)
                return

    def attach(self, id: str, conn: int, offset: int, credit: int) -> tuple[Sends, int, bool]:
        """A connection reads from `offset` on; `check_offset` has passed.

        Returns what to send (kept chunks, as far as its credit goes), credit for the worker, and whether the end
        went out.
        """
        stream = self.streams[id]
        stream.conn, stream.credit, stream.closed = conn, credit, False
        stream.skip = offset if offset > stream.end else 0
        index = 0
        for index, (at, size, message) in enumerate(stream.chunks):  # noqa: B007
            if offset < at + size:
                break
        else:
            index = len(stream.chunks)
        if index < len(stream.chunks) and stream.chunks[index][0] < offset:
            at, size, message = stream.chunks[index]
            head, tail = _split(message, offset - at, offset)
            stream.chunks[index : index + 1] = [(at, offset - at, head), (offset, size - (offset - at), tail)]
            index += 1
        stream.next = index
        if not stream.keep:
            stream.forget(offset)
        sends: Sends = []
        ended = stream.send(sends)
        return sends, stream.grant(), ended

    def made(self, id: str) -> int:
        """Return how many tokens of a stream have come from its worker."""
        stream = self.streams.get(id)
        return len(stream.tokens) if stream else 0

    def held(self, id: str) -> int:
        """Return how many bytes are held of a stream."""
        stream = self.streams.get(id)
        if stream is None:
            return 0
        return sum(len(message) + CHUNK_OVERHEAD for _, _, message in (*stream.chunks, *stream.raw))


def _text(message: bytes) -> str:
    return str(unpack(message).get("x", ""))


def _split(message: bytes, cut: int, offset: int) -> tuple[bytes, bytes]:
    """Cut a chunk in two after `cut` bytes of its text; token details stay with neither."""
    chunk = unpack(message)
    key = "x" if chunk.get("x") else "r"
    text = str(chunk[key]).encode()
    try:
        head, tail = text[:cut].decode(), text[cut:].decode()
    except UnicodeDecodeError as error:
        raise BadOffset(f"offset {offset} is inside a character") from error
    start = {"t": "chunk", "id": chunk["id"]}
    return pack(start | {"o": chunk["o"], key: head}), pack(start | {"o": offset, key: tail})


def _tail(message: bytes, cut: int, offset: int) -> bytes:
    return _split(message, cut, offset)[1]
