"""A line to `ingled`: the protocol as docs/protocol.md demands it of a client, message by message."""

from collections.abc import Sequence
from typing import Any

from ingle.wire.codec import pack, unpack
from ingle.wire.limits import DEFAULT_CREDIT
from ingle.zmtp import Dealer

from bench.drive import Usage

PATIENCE_S = 60.0


class SocketLine:
    """One connection and session. It gives credit as the client library does: half of its window at a time."""

    def __init__(
        self, path: str, model: str | None = None, *, window: int = DEFAULT_CREDIT, tags: Sequence[str] = ()
    ) -> None:
        self._model = model
        self._window = window
        self._dealer = Dealer(path)
        self._id = ""
        self._freed = 0
        self._send({"t": "hello", "protocol": [1, 1], "client": {"name": "bench", "tags": list(tags)}})
        while not self._dealer.receive():
            if not self._dealer.wait(PATIENCE_S):
                raise TimeoutError("no welcome")

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._dealer.fileno()

    def ask(self, prompt: str, tokens: int, streamed: bool) -> None:
        """Send a chat request: greedy, and to the full number of tokens."""
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        body |= {"temperature": 0, "ignore_eos": True}
        message: dict[str, Any] = {"t": "request", "ref": 1, "op": "chat", "body": body, "stream": streamed}
        if self._model is not None:
            message["model"] = self._model
        self._freed = 0
        self._send(message | {"credit": self._window})

    def read(self) -> tuple[int, Usage | None]:
        """Read what is there: how many pieces of text, and the tokens of an answer that is complete."""
        pieces = 0
        over: Usage | None = None
        end = 0
        for frames in self._dealer.receive():
            message = unpack(frames[0])
            match message["t"]:
                case "chunk":
                    pieces += 1
                    end = message["o"] + len(message["x"].encode())
                case "done":
                    over = message["usage"]["prompt"], message["usage"]["completion"]
                case "accepted":
                    self._id = message["id"]
                case "failed":
                    raise RuntimeError(message)
        if pieces and over is None:
            self._freed += pieces
            if self._freed * 2 >= self._window:
                self._send({"t": "credit", "id": self._id, "n": self._freed, "ack": end})
                self._freed = 0
        return pieces, over

    def call(self, verb: str, **args: Any) -> Any:
        """Ask the daemon itself. Raises RuntimeError with its `failed`."""
        self._send({"t": "call", "ref": 2, "verb": verb, "args": args})
        while True:
            for frames in self._dealer.receive():
                message = unpack(frames[0])
                if message["t"] == "failed":
                    raise RuntimeError(message)
                if message["t"] == "result":
                    return message["value"]
            if not self._dealer.wait(PATIENCE_S * 10):
                raise TimeoutError(f"no answer to {verb}")

    def close(self) -> None:
        """Close the connection without a word."""
        self._dealer.close()

    def _send(self, message: dict[str, Any]) -> None:
        self._dealer.send(pack(message))
        while self._dealer.wants_write:
            self._dealer.wait(PATIENCE_S)
            self._dealer.flush()
