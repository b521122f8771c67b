"""A line to an OpenAI-compatible server: as little HTTP as the measurement needs, over one kept connection."""

import json
import socket
from collections.abc import Mapping
from typing import Any

from bench.drive import Usage

READ_BYTES = 1 << 15  # from 128 KiB on, malloc maps and unmaps memory for each read: 10 us
EVENT = b"data: {"
LAST_CHUNK = b"0\r\n\r\n"


class HttpLine:
    """One connection. Events of a stream are counted; only the first ones and the last one are parsed."""

    def __init__(
        self, port: int, model: str, *, more: Mapping[str, Any] | None = None, tells_usage: bool = True
    ) -> None:
        self._model = model
        self._more = more or {}
        """Fields of each request that this server needs beside."""
        self._tells_usage = tells_usage
        """Whether the end of a stream says how many tokens there were."""
        self._tokens = 0
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streamed = False
        self._started = False
        """Text has come."""
        self._buffer = b""
        self._seen = 0
        """Bytes of the buffer whose events are counted."""

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def ask(self, prompt: str, tokens: int, streamed: bool) -> None:
        """Send a chat request."""
        self._socket.sendall(request(self._model, prompt, tokens, streamed, self._more))
        self._streamed, self._started, self._buffer, self._seen = streamed, False, b"", 0
        self._tokens = tokens

    def read(self) -> tuple[int, Usage | None]:
        """Read what is there: how many pieces of text, and the tokens of an answer that is complete."""
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError(f"the server closed the connection: {self._buffer[-500:]!r}")
        self._buffer += data
        if not self._streamed:
            return 0, self._whole()
        if not self._started:
            self._check()
            got = sum(has_text(event) for event in events(self._buffer))
            self._started = got > 0
            self._seen = self._buffer.rfind(b"\n") + 1
        else:
            end = self._buffer.rfind(b"\n") + 1
            got = self._buffer.count(EVENT, self._seen, end)
            self._seen = max(end, self._seen)
        over = None
        if self._buffer.endswith(LAST_CHUNK):
            over = last_usage(self._buffer) if self._tells_usage else (0, self._tokens * reached_length(self._buffer))
            got = max(0, got - 1)  # the event with the usage, or with the reason for the end, has no text
        elif self._started:
            self._buffer = self._buffer[max(0, self._seen - 2048) :]
            self._seen = min(self._seen, 2048)
        return got, over

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _whole(self) -> Usage | None:
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        self._check()
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), None
        )
        if length is None:
            return usage(json.loads(_body(body))) if body.endswith(LAST_CHUNK) else None
        return usage(json.loads(body)) if len(body) >= length else None

    def _check(self) -> None:
        if self._buffer[9:12] != b"200" and len(self._buffer) > 12:
            raise RuntimeError(self._buffer.decode(errors="replace"))


def request(model: str, prompt: str, tokens: int, streamed: bool, more: Mapping[str, Any] | None = None) -> bytes:
    """Return the bytes of a chat request: greedy, and to the full number of tokens."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
    body |= {"temperature": 0, "ignore_eos": True} | dict(more or {})
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def events(data: bytes) -> list[dict[str, Any]]:
    """Return the complete events in a piece of a stream."""
    return [json.loads(line[6:]) for line in data.split(b"\n")[:-1] if line.startswith(EVENT)]


def has_text(event: dict[str, Any]) -> bool:
    """Return whether an event brings text; the first one of some servers brings only the role."""
    return any(choice["delta"].get("content") for choice in event["choices"])


def last_usage(data: bytes) -> Usage:
    """Return the tokens that the end of a stream tells."""
    for event in reversed(events(data)):
        if event.get("usage"):
            return usage(event)
    raise RuntimeError(f"the stream has no usage: {data[-500:]!r}")


def reached_length(data: bytes) -> bool:
    """Return whether the end of a stream says that the answer has as many tokens as were asked for."""
    return any(choice.get("finish_reason") == "length" for event in events(data) for choice in event["choices"])


def usage(answer: dict[str, Any]) -> Usage:
    """Return the tokens that an answer tells."""
    return int(answer["usage"]["prompt_tokens"]), int(answer["usage"]["completion_tokens"])


def _body(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        body, chunks = body + rest[:length], rest[length + 2 :] if length else b""
    return body
