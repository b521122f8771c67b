"""The answer to Prometheus: HTTP on a unix socket or a loopback port, one page, no state.

It is not a web server: it reads the head of a request, answers and closes. Whoever sends more, or nothing, is closed.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from ingled.broker.listen import CannotListen, listen

HEAD_BYTES = 8192
HEAD_S = 5.0
"""Bytes and seconds that the head of a request may take."""

MOST = 16
"""Connections at once; more are closed unread."""


class Scrape:
    """Serves what `text` returns at `/metrics`."""

    def __init__(self, where: Path | tuple[str, int]) -> None:
        """Take a unix socket or a port. Raises CannotListen."""
        self._path = where if isinstance(where, Path) else None
        self._socket = _bound(where)
        self._text: Callable[[], Awaitable[bytes]]
        self._type = ""
        self._open = 0
        self._server: asyncio.Server | None = None

    async def serve(self, text: Callable[[], Awaitable[bytes]], content_type: str) -> None:
        """Answer whoever comes, from now on."""
        self._text, self._type = text, content_type
        start = asyncio.start_unix_server if self._path is not None else asyncio.start_server
        self._server = await start(self._answer, sock=self._socket, limit=HEAD_BYTES)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)
                writer.write(await self._page(head))
                await asyncio.wait_for(writer.drain(), HEAD_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _page(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", "text/plain", b"only GET\n", head_only=False)
        if path != b"/metrics":
            return _response("404 Not Found", "text/plain", b"see /metrics\n", head_only=method == b"HEAD")
        return _response("200 OK", self._type, await self._text(), head_only=method == b"HEAD")


def _bound(where: Path | tuple[str, int]) -> socket.socket:
    try:
        if isinstance(where, Path):
            return socket.socket(fileno=listen(where, 0o660))
        return socket.create_server(where, family=socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
    except OSError as error:
        place = where if isinstance(where, Path) else f"{where[0]}:{where[1]}"
        why = error.strerror or os.strerror(error.errno or 0)
        raise CannotListen(f"metrics cannot be served at {place}: {why}") from error


def _response(status: str, kind: str, body: bytes, *, head_only: bool) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + (b"" if head_only else body)
