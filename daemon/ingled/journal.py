"""Where logs go: under systemd to the journal, with fields that can be asked for; else to standard error.

    log.info("model '%s' is ready", name, extra=about(model=name))

Prompts and answers are in no field: of exceptions only place and kind are told, because their words may quote.
systemd's own library is used where it is installed; what is written out here does the same.
"""

import logging
import os
import socket
import struct
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

try:
    from systemd import journal as _systemd
except ImportError:
    _systemd = None
systemd: Any = _systemd

SOCKET = "/run/systemd/journal/socket"
LONGEST = 48 << 10
"""Bytes of a message: one datagram takes it."""
PLAIN = "%(asctime)s %(levelname)s %(message)s"
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

Info = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def about(*, request: str = "", model: str = "", account: str = "", hook: str = "") -> dict[str, dict[str, str]]:
    """Return the `extra` of a log call: what it is about, as fields REQUEST_ID, MODEL, ACCOUNT and HOOK."""
    named = {"REQUEST_ID": request, "MODEL": model, "ACCOUNT": account, "HOOK": hook}
    return {"about": {name: value for name, value in named.items() if value}}


def configure(level: str, identifier: str, plain: str = PLAIN) -> None:
    """Send the logs of this process to the journal, if standard error goes there, else to standard error."""
    handler: logging.Handler
    if connected():
        handler = JournalHandler(identifier)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Reticent(plain))
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Log what is of this level or above; of others' libraries no more than `info`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("ingled").setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))


def connected() -> bool:
    """Return whether standard error is a stream of the journal."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" and os.path.exists(SOCKET)


class Reticent(logging.Formatter):
    """Writes a record without the words of its exception, but for those of the operating system."""

    def formatException(self, ei: Info) -> str:
        """Return place and kind of an exception."""
        kind, error, where = ei
        words = f": {error}" if isinstance(error, OSError) else ""
        lines = traceback.format_tb(where)
        return "".join([*lines, f"{kind.__name__ if kind else 'nothing'}{words}"])


class JournalHandler(logging.Handler):
    """Sends records to the journal."""

    def __init__(self, identifier: str, always: Mapping[str, str] | None = None, *, library: bool = True) -> None:
        """Every record has the fields `always`.

        `library`: by systemd's own one, if there is one. Not where descriptors have been closed, as in a forked worker:
        it keeps the number of its socket, which is somebody else's now.
        """
        super().__init__()
        self._library = library
        self.setFormatter(Reticent("%(message)s"))
        self._identifier, self._always = identifier, dict(always or {})

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; when the journal does not take it, there is nobody to tell."""
        try:
            self._send(record)
        except Exception:
            self.handleError(record)

    def _send(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": self.format(record).encode(errors="replace")[:LONGEST].decode(errors="replace"),
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        send(fields | self._always | getattr(record, "about", {}), library=self._library)


def priority(level: int) -> int:
    """Return the journal's number for a level of logging."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def send(fields: Mapping[str, str], *, library: bool = True) -> None:
    """Send one entry to the journal."""
    if library and systemd is not None:
        systemd.sendv(*(f"{name}={value}" for name, value in fields.items()))
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.sendto(b"".join(_packed(name, value.encode()) for name, value in fields.items()), SOCKET)
    except OSError:
        pass


def _packed(name: str, value: bytes) -> bytes:
    """Return a field in the journal's native protocol: one with line ends has its length before it."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
