"""webhook: tells an HTTP server of every request that has ended (docs/plugins/webhook.md).

An observer: no request waits for it. What waits is bounded by the daemon, and what fails is counted there.
"""

import hashlib
import hmac
import http.client
import os
import random
import socket
import stat
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from ingled.hooks import Answer, Call, Hook, hookimpl
from msgspec import Struct

VERSION = "1.0"
HOOK = Hook(order=995, deadline_ms=30_000, on_error="skip")

FIRST_PAUSE_S = 0.25
"""Before the second attempt; doubled before each further one, and then between half of it and all."""
SECRET_BYTES = 32
"""Shortest secret."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to tell, and how much."""

    url: str
    """`http://…` or `https://…`; or `unix:/path/of/socket`, for HTTP over a unix socket."""
    secret_file: str
    """A file that nobody else can read, with the secret for signatures: at least 32 bytes."""
    text: bool = False
    """Tell messages and answer too, and not only that there was one."""
    only: tuple[str, ...] = ()
    """Ends that are told, such as `failed`; none named: all."""
    timeout_ms: int = 3000
    """For each attempt."""
    attempts: int = 4


class Target(NamedTuple):
    """Where a message goes."""

    kind: str
    """`http`, `https` or `unix`."""
    host: str
    """Or the socket's path."""
    port: int | None
    path: str


def check(options: Options) -> None:
    """Raise ValueError where nobody could be told, or not safely."""
    target(options.url)
    secret(options.secret_file)
    if not 1 <= options.attempts <= 10:
        raise ValueError("attempts: from 1 to 10")
    if not 1 <= options.timeout_ms <= 30_000:
        raise ValueError("timeout_ms: from 1 to 30000")


@hookimpl
def ingled_observe(answer: Answer, call: Call, options: Options) -> None:
    """Tell of an end. Raises what the last attempt did, which counts as a failure of this hook."""
    if options.only and answer["finish"] not in options.only:
        return
    body = msgspec.json.encode(event(answer, call, options.text))
    # The same for every attempt: who gets it twice can tell.
    headers = {"Content-Type": "application/json", "User-Agent": f"ingle-webhook/{VERSION}", "Ingle-Event": call.id}
    where, key = target(options.url), secret(options.secret_file)
    for attempt in range(options.attempts):
        if attempt:
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        try:
            post(where, body, headers | signature(key, body, int(time.time())), options.timeout_ms / 1000)
        except Refused as error:
            if not error.again or attempt + 1 == options.attempts:
                raise
        except (OSError, http.client.HTTPException) as error:
            if attempt + 1 == options.attempts:
                raise ConnectionError(f"{where.host}: {str(error) or type(error).__name__}") from None
        else:
            return


class Refused(Exception):
    """The server has not taken it; `again`: it may later."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answers {status}")
        self.again = status in (408, 425, 429) or status >= 500


def event(answer: Answer, call: Call, text: bool) -> dict[str, Any]:
    """Return what is told of a request."""
    about = {
        "id": call.id,
        "time": round(time.time(), 3),
        "account": call.account,
        "op": call.op,
        "stream": call.stream,
    }
    about |= {"client": call.client, "tags": call.tags}
    kept = ("finish", "model", "usage", *(("messages", "text", "failed") if text else ()))
    told = about | {key: answer[key] for key in kept if key in answer}  # type: ignore[literal-required]
    failed = answer.get("failed")
    if failed and not text:  # its message may quote a prompt
        told["failed"] = {key: failed[key] for key in ("code", "fault") if key in failed}
    return told


def signature(key: bytes, body: bytes, now: int) -> dict[str, str]:
    """Return the header that signs a body at a time: HMAC-SHA256 of `TIME.BODY`, in hex."""
    digest = hmac.new(key, b"%d." % now + body, hashlib.sha256).hexdigest()
    return {"Ingle-Signature": f"t={now},v1={digest}"}


def post(where: Target, body: bytes, headers: dict[str, str], timeout: float) -> None:
    """Send it, once. Raises Refused, OSError or HTTPException; a redirection is refused, not followed."""
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection, "unix": _Unix}
    connection = kinds[where.kind](where.host, where.port, timeout=timeout)
    try:
        connection.request("POST", where.path, body, headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise Refused(status)


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket, whose path is the host."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        super().putheader(header, *(("localhost",) if header == "Host" else values))


@lru_cache(maxsize=8)
def target(url: str) -> Target:
    """Read an address. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Target("unix", parts.path, None, "/")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: {url!r} is none of http://…, https://…, unix:/path")
    if parts.username is not None:
        raise ValueError("url: has a name or password in it; the signature says who asks")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, parts.port, path)


@lru_cache(maxsize=8)
def secret(file: str) -> bytes:
    """Read the secret. Raises ValueError where others can read it, or it is too short."""
    path = Path(file)
    try:
        if not path.is_absolute() or not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"secret_file: {file!r} is no absolute path of a file")
        if path.stat().st_mode & 0o077 or path.stat().st_uid not in (0, os.geteuid()):
            raise ValueError(f"secret_file: {file} is open to others; chmod 600")
        found = path.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"secret_file: {file}: {error.strerror}") from None
    if len(found) < SECRET_BYTES:
        raise ValueError(f"secret_file: {file} has {len(found)} bytes; at least {SECRET_BYTES}, `openssl rand -hex 32`")
    return found
