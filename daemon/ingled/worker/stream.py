"""One stream's account of credit, offsets and text that is held; and the cutting of text into chunks. Pure.

A chunk is held until its text is acknowledged, and the end until it is released, so that a new broker gets what the
old one had. Only the event that tells the request's task to go on is asyncio's.
"""

import asyncio
from collections import deque
from typing import Any

import msgspec
from ingle.wire.limits import CHUNK_BYTES
from ingle.wire.schema import Chunk

from ingled.link import Ended, Held, Piece, Run, RunFailed
from ingled.worker.engine import Delta, Request

CHUNK_LOGPROBS = 8192
"""Most logprobs in one chunk, alternatives counted: with them a chunk stays under 1 MiB."""

_pack = msgspec.msgpack.Encoder().encode


class Stream:
    """What one request has sent, may send, and holds."""

    def __init__(self, run: Run) -> None:
        self.id = run.id
        self.credit = run.credit
        self.aborted = False
        self.request: Request | None = None
        """What the engine is to be asked, as long as that has to wait."""
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
        self._go = asyncio.Event()

    def grant(self, chunks: int, ack: int) -> None:
        """Add credit, and forget what is acknowledged."""
        self.credit += chunks
        while self.held and self.held[0].offset + self.held[0].size <= ack:
            self._forgotten += self.held.popleft().tokens
        self._go.set()

    def abort(self) -> None:
        """Let the request's task go on without credit: what it pulls is thrown away."""
        self.aborted = True
        self._waiting.clear()
        self._go.set()

    def put(self, delta: Delta) -> None:
        """Cut a delta into chunks."""
        self._tokens += delta.tokens
        if delta.logprobs is not None:
            self._logprobs = (self._logprobs or []) + delta.logprobs
        if not delta.text or self.aborted:
            return
        for text, logprobs in cut(delta.text, self._logprobs):
            size = len(text.encode())
            chunk = Chunk(self.id, self._cut_at, text, p=msgspec.UNSET if logprobs is None else logprobs)
            # All ids go with the first chunk: whoever has the text of a token must have its id.
            self._waiting.append(Piece(self.id, self._cut_at, size, self._tokens, _pack(chunk)))
            self._cut_at += size
            self._tokens = []
        self._logprobs = None

    def take(self) -> list[Piece]:
        """Return the chunks that the credit allows, and charge for them."""
        pieces: list[Piece] = []
        while self._waiting and self.credit > 0:
            piece = self._waiting.popleft()
            self.credit -= 1
            self.offset += piece.size
            pieces.append(piece)
        self.held += pieces
        return pieces

    def account(self) -> Held:
        """Return what a new broker has to know; `held` and `end` follow it."""
        at = self.held[0].offset if self.held else self.offset
        run = self._run
        return Held(self.id, run.op, run.body, run.stream, run.record, at, self._forgotten, self.request is not None)

    @property
    def empty(self) -> bool:
        """Nothing waits for credit."""
        return not self._waiting

    async def may_go(self) -> bool:
        """Return when there is credit, or, with False, when the request has been aborted."""
        while self.credit <= 0 and not self.aborted:
            self._go.clear()
            await self._go.wait()
        return not self.aborted


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
