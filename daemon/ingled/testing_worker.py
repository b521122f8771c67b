"""A worker with the real engine, as its broker sees it: start it, ask it, gather its answers. For tests."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingled import link
from ingled.testing_link import LinkBroker

START_S: Final = 120.0


@dataclass
class Answer:
    """All that came for one request."""

    text: str
    tokens: list[int]
    logprobs: list[dict[str, Any]]
    chunks: int
    end: link.Ended | link.RunFailed

    @property
    def ended(self) -> link.Ended:
        """The end of an answer that is whole."""
        assert isinstance(self.end, link.Ended), self.end
        return self.end

    @property
    def failed(self) -> link.RunFailed:
        """The end of an answer that is not."""
        assert isinstance(self.end, link.RunFailed), self.end
        return self.end


class Model:
    """A worker that is started at once."""

    def __init__(self, broker: LinkBroker, nursery: bytes, spec: link.Spec) -> None:
        self.broker = broker
        broker.send(nursery, link.Start(spec))
        _, forked = broker.wait(link.Forked, START_S)
        self.pid = forked.pid
        self.peer, ready = broker.wait(link.Ready, START_S)
        self.info = ready.info
        self._ids = 0

    def send(
        self,
        body: dict[str, Any],
        *,
        stream: bool = True,
        salt: str = "alice",
        credit: int = 100_000,
        behind: tuple[list[int], int] = ([], 0),
    ) -> str:
        """Ask, and return the id of the request; `behind` are tokens and bytes that an earlier worker has sent."""
        self._ids += 1
        op = "chat" if "messages" in body else "complete"
        run = link.Run(f"r{self._ids}", op, link.pack_body(body), stream, credit, salt, b"", 0, *behind)
        self.broker.send(self.peer, run)
        return run.id

    def stats(self) -> link.Stats:
        """Return the next report of this worker."""
        return self.broker.wait(link.Stats, peer=self.peer)[1]

    def answers(self, ids: set[str]) -> dict[str, Answer]:
        """Return the answers to these requests when the last one has ended."""
        pieces: dict[str, list[link.Piece]] = {id: [] for id in ids}
        ends: dict[str, link.Ended | link.RunFailed] = {}
        while set(ends) != ids:
            got = self.broker.pump(START_S)
            assert got, f"no answer to {ids - set(ends)}"
            if got[0] != self.peer:  # other workers count their requests from 1 too
                continue
            match got[1]:
                case link.Chunks(found):
                    for piece in found:
                        pieces.setdefault(piece.id, []).append(piece)
                case link.Ended() | link.RunFailed() as end:
                    if end.id in ids:
                        ends[end.id] = end
        return {id: self._answer(pieces[id], ends[id]) for id in ids}

    def ask(self, body: dict[str, Any], **more: Any) -> Answer:
        """Ask, and return the answer when it has ended."""
        id = self.send(body, **more)
        return self.answers({id})[id]

    @staticmethod
    def _answer(pieces: list[link.Piece], end: link.Ended | link.RunFailed) -> Answer:
        text, tokens, logprobs = b"", [], []
        chunks = 0
        for piece in pieces:
            tokens += piece.tokens
            if not piece.payload:  # tokens without text
                continue
            chunk = msgspec.msgpack.decode(piece.payload)
            assert chunk["o"] == pieces[0].offset + len(text)
            text += chunk["x"].encode()
            logprobs += chunk.get("p", [])
            chunks += 1
        return Answer(text.decode(), tokens, logprobs, chunks, end)
