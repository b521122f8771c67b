"""One stream's account of credit, offsets and text that is held; and the cutting of text into chunks. Pure.

A chunk is held until its text is acknowledged, and the end until it is released, so that a new broker gets what the
old one had.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from ingle.wire.limits import CHUNK_BYTES, FRAME_BYTES
from ingle.wire.schema import Chunk

from ingled.link import Ended, Freed, Held, Piece, Run, RunFailed
from ingled.worker.engine import Answer, Delta, EngineRefused, Request

CHUNK_LOGPROBS = 8192
"""Most logprobs in one chunk, alternatives counted: with them a chunk stays under 1 MiB."""

_pack = msgspec.msgpack.Encoder().encode


class Stream:
    """What one request has sent, may send, and holds."""

    def __init__(self, run: Run) -> None:
        self.id = run.id
        self.credit = run.credit
        self.aborted = self.muted = False
        """`muted`: nobody is told its end; the request may run here once more."""
        self.request: Request | None = None
        """What the engine is to be asked, as long as that has to wait."""
        self.answer: Answer | None = None
        """What the engine makes; None until it has begun."""
        self.freed: Freed | None = None
        """The engine is done with it, though text of it still waits for its reader."""
        self.last: Delta | None = None
        """The delta with the answer's end, once it has come."""
        self.end: Ended | RunFailed | None = None
        self.offset = run.offset
        """Bytes of text that have been sent."""
        self.held = deque(run.held)
        """Chunks that have been sent, also by an earlier worker, and not acknowledged."""
        self._run = run
        self._forgotten = list(run.tokens)  # ids of all tokens but those that are in the chunks held
        self._waiting: deque[Piece] = deque()
        self._cut_at = run.offset
        self._tokens: list[int] = []  # tokens and logprobs without text yet, such as half a character
        self._logprobs: list[dict[str, Any]] | None = None

    def grant(self, chunks: int, ack: int) -> None:
        """Add credit, and forget what is acknowledged."""
        self.credit += chunks
        while self.held and self.held[0].offset + self.held[0].size <= ack:
            self._forgotten += self.held.popleft().tokens

    def abort(self) -> None:
        """Go on without credit: what is pulled is thrown away."""
        self.aborted = True
        self._waiting.clear()

    def put(self, delta: Delta) -> None:
        """Cut a delta into chunks; a whole answer stays as it is, in `last`."""
        if delta.end is not None:
            self.last = delta
        if not self._run.stream:
            return
        self._tokens += delta.tokens
        if delta.logprobs is not None:
            self._logprobs = (self._logprobs or []) + delta.logprobs
        if self.aborted:
            return
        if not delta.text:
            if delta.end is not None and self._tokens:
                self._append_textless()
            return
        if self._logprobs is None and (size := len(delta.text.encode())) <= CHUNK_BYTES:  # the hot path
            self._append(delta.text, size, msgspec.UNSET)
            return
        for text, logprobs in cut(delta.text, self._logprobs):
            self._append(text, len(text.encode()), msgspec.UNSET if logprobs is None else logprobs)
        self._logprobs = None

    def _append(self, text: str, size: int, logprobs: Any) -> None:
        chunk = _pack(Chunk(self.id, self._cut_at, text, p=logprobs))
        # All ids go with the first chunk: whoever has the text of a token must have its id.
        self._waiting.append(Piece(self.id, self._cut_at, size, self._tokens, chunk))
        self._cut_at += size
        self._tokens = []

    def _append_textless(self) -> None:
        """Last tokens that have no text: their ids go to the broker, details of them to the reader."""
        payload = b""
        if self._logprobs:
            payload = _pack({"t": "chunk", "id": self.id, "o": self._cut_at, "x": "", "p": self._logprobs})
        self._waiting.append(Piece(self.id, self._cut_at, 0, self._tokens, payload))
        self._tokens, self._logprobs = [], None

    def advance(self, send: Callable[[Piece], None]) -> Delta | None:
        """Send what has been generated, as far as the credit allows; returns the last delta when all has been sent.

        While there is no credit nothing is taken from the answer, which merges what follows. Raises what `take` does.
        """
        answer, waiting = self.answer, self._waiting
        if answer is None:
            return None
        while True:
            while waiting:
                if waiting[0].payload:
                    if self.credit <= 0:
                        return None
                    self.credit -= 1
                piece = waiting.popleft()
                self.offset += piece.size
                self.held.append(piece)
                send(piece)
            if self.last is not None:
                return self.last
            if self.credit <= 0 and self._run.stream and not self.aborted:
                return None
            delta = answer.take()
            if delta is None:
                return None
            self.put(delta)

    def account(self) -> Held:
        """Return what a new broker has to know; `held` and `end` follow it."""
        at = self.held[0].offset if self.held else self.offset
        run = self._run
        return Held(self.id, run.op, run.body, run.stream, run.record, at, self._forgotten, self.request is not None)

    @property
    def streams(self) -> bool:
        """Its text goes out in chunks, not whole at the end."""
        return self._run.stream

    @property
    def empty(self) -> bool:
        """Nothing waits for credit."""
        return not self._waiting


def cut(text: str, logprobs: list[dict[str, Any]] | None) -> list[tuple[str, list[dict[str, Any]] | None]]:
    """Cut text between characters so that no chunk is too large, and share its logprobs out in order."""
    data = text.encode()
    parts = -(-len(data) // CHUNK_BYTES)
    if logprobs:
        parts = max(parts, -(-sum(1 + len(one["top"]) for one in logprobs) // CHUNK_LOGPROBS))
    parts = min(parts, len(text))
    if parts <= 1:
        return [(text, logprobs)]
    texts: list[str] = []
    size = min(CHUNK_BYTES, -(-len(data) // parts))
    at = 0
    while at < len(data):
        end = min(at + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # not inside a character
            end -= 1
        if end == at:  # one character is longer than the share
            end = at + 1
            while end < len(data) and data[end] & 0xC0 == 0x80:
                end += 1
        texts.append(data[at:end].decode())
        at = end
    if logprobs is None:
        return [(one, None) for one in texts]
    share = -(-len(logprobs) // len(texts))
    return [(one, logprobs[index * share : (index + 1) * share]) for index, one in enumerate(texts)]


def whole(delta: Delta) -> dict[str, object]:
    """Return the whole answer as the client gets it. Raises EngineRefused when no message can carry it."""
    result: dict[str, object] = {"text": delta.text}
    if delta.logprobs is not None:
        result["logprobs"] = delta.logprobs
    size = len(msgspec.msgpack.encode(result))
    if size > FRAME_BYTES - 4096:
        text = f"the answer has {size} bytes in one message, the limit is {FRAME_BYTES}"
        raise EngineRefused("too_large", text, "ask for a stream", at="stream")
    return result
