"""Writes down what was asked and answered, as JSON lines, where somebody has asked for that.

docs/plugins/transcript.md says what stands in a line, how long it is kept, and what becomes of it when a disk is full.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from time import time
from typing import Any, Literal

from ingled.hooks import Answer, Call, Hook, hookimpl
from msgspec import Struct

from ingle_plugins.linear import compiled
from ingle_plugins.transcript.store import Limits, Store, Unsafe

VERSION = "1.0"
HOOK = Hook(order=990, deadline_ms=5000, on_error="skip")

FIELDS = ("messages", "text", "options", "usage", "hooks", "finish", "model", "client")
_ITSELF = ("time", "id", "account", "op")
"""What the daemon itself says, and no pattern may spoil."""
REDACTED = "[redacted]"

_log = logging.getLogger(__name__)

Clean = Callable[[list[str]], list[str]]
"""Takes out of texts what must not be written."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written, where, and for how long."""

    folder: str
    """An absolute path; it is made with mode 0700 if it is not there."""
    leave_out: tuple[str, ...] = ()
    """Fields that are not written: `messages`, `text`, `options`, `usage`, `hooks`, `finish`, `model`, `client`."""
    patterns: tuple[str, ...] = ()
    """Regular expressions (RE2) whose matches are written as `[redacted]`."""
    redact: bool = False
    """Take secrets and personal data out: all kinds that the plugin `redact` finds."""
    rotate_bytes: int = 16 << 20
    rotate_hours: float = 24.0
    """A file that is larger or older than this is put aside, and a new one begun."""
    keep_days: float = 30.0
    """Files that were put aside are deleted when they are older than this."""
    keep_bytes: int = 1 << 30
    """And the oldest of them when all are together larger than this."""
    line_bytes: int = 1 << 20
    """Longest line; its texts are cut to fit."""
    sync: Literal["never", "rotate", "line"] = "rotate"
    """When the disk is made to hold what was written."""


def check(options: Options) -> None:
    """Raise ValueError where nothing could be written, or something that should not be."""
    if not Path(options.folder).is_absolute():
        raise ValueError(f"folder: {options.folder!r} is no absolute path")
    for at, field in enumerate(options.leave_out):
        if field not in FIELDS:
            raise ValueError(f"leave_out[{at}]: {field!r} is none of {', '.join(FIELDS)}")
    for name in ("rotate_bytes", "rotate_hours", "keep_days", "keep_bytes"):
        if getattr(options, name) <= 0:
            raise ValueError(f"{name}: is not above 0")
    if options.line_bytes < 1024:
        raise ValueError("line_bytes: at least 1024")
    if options.redact:
        try:
            _redactor()(["to have read its rules and lists"])
        except (ImportError, RuntimeError) as error:
            raise ValueError(f"redact: {error}; install ingle[plugins], or use patterns") from None
    _patterns(options.patterns)
    try:
        _store(options).probe()
    except Unsafe as error:
        raise ValueError(f"folder: {error}") from None


@hookimpl
def ingled_observe(answer: Answer, call: Call, options: Options) -> None:
    """Write a line about an answer. What cannot be written is lost and counted; nothing else suffers."""
    store = _store(options)
    try:
        record = _record(answer, call, options)
        lost = store.lost
        line = _line(record | ({"lost_before": lost} if lost else {}), options.line_bytes)
        store.append(call.account or "nobody", line, time())
    except (OSError, Unsafe) as error:
        _lose(store, str(error))
    except Exception as error:  # a redaction that fails must not let the text through, and its error may quote it
        _lose(store, f"the line could not be made ({type(error).__name__})")


def _lose(store: Store, why: str) -> None:
    lost = store.lose(time())
    if lost:
        _log.warning("transcript: %s; %d lines are lost so far", why, lost)


@lru_cache(maxsize=8)
def _stores(folder: str, limits: Limits) -> Store:
    return Store(Path(folder), limits)


def _store(options: Options) -> Store:
    keep, age = options.keep_days * 86400, options.rotate_hours * 3600
    limits = Limits(options.rotate_bytes, age, keep, options.keep_bytes, options.sync)
    return _stores(options.folder, limits)


def _record(answer: Answer, call: Call, options: Options) -> dict[str, Any]:
    """Return what is written about an answer, with what must not be taken out."""
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": call.id,
        "account": call.account,
        "client": {"name": call.client, "tags": call.tags},
        "op": call.op,
        "model": answer.get("model", {}),
        "messages": answer.get("messages", []),
        "text": answer.get("text", ""),
        "finish": answer.get("finish", ""),
        "usage": answer.get("usage", {}),
        "options": answer.get("options", {}),
        "hooks": answer.get("hooks", []),
    }
    if "failed" in answer:
        record["failed"] = answer["failed"]
    kept = {key: value for key, value in record.items() if key not in options.leave_out}
    return {**kept, **_cleaned({key: value for key, value in kept.items() if key not in _ITSELF}, options)}


def _cleaned(value: dict[str, Any], options: Options) -> dict[str, Any]:
    """Return a value with every text in it cleaned, names of keys below the first too.

    All are looked at together: a secret that one of them gives away is taken out of the others.
    """
    texts: list[str] = list(dict.fromkeys(each for item in value.values() for each in _texts(item)))
    clean = texts
    if options.redact:
        clean = _redactor()(clean)
    for pattern in _patterns(options.patterns):
        clean = [pattern.sub(REDACTED, text) for text in clean]
    by = dict(zip(texts, clean, strict=True))
    return {key: _replaced(item, by) for key, item in value.items()}


@lru_cache(maxsize=1)
def _redactor() -> Clean:
    from ingle_plugins import redact

    return partial(redact.without, finder=redact.Finder(redact.Options()), put=REDACTED)


@lru_cache(maxsize=8)
def _patterns(expressions: tuple[str, ...]) -> list[Any]:
    found = []
    for at, expression in enumerate(expressions):
        try:
            found.append(compiled(expression))
        except ValueError as error:
            raise ValueError(f"patterns[{at}]: {error}") from None
    return found


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield str(key)
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def _replaced(value: Any, by: dict[str, str]) -> Any:
    match value:
        case str():
            return by[value]
        case dict():
            return {by[str(key)]: _replaced(item, by) for key, item in value.items()}
        case list() | tuple():
            return [_replaced(item, by) for item in value]
        case _:
            return value


def _line(record: dict[str, Any], most: int) -> bytes:
    """Return a record as one line; the longest texts are cut until it has room."""
    line = _dumped(record)
    share = most // 2
    while len(line) >= most and share > 16:
        record = {**_cut(record, share), "cut": True}
        line = _dumped(record)
        share //= 4
    if len(line) >= most:
        record = {key: record[key] for key in ("time", "id", "account") if key in record}
        line = _dumped(record | {"cut": True})
    return line + b"\n"


def _dumped(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=repr)
    return re.sub("[\u0085\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text).encode(
        errors="backslashreplace"
    )


def _cut(value: Any, most: int) -> Any:
    match value:
        case str() if len(value) > most:
            return f"{value[:most]}[... {len(value)} characters in all]"
        case dict():
            return {key: _cut(item, most) for key, item in value.items()}
        case list() | tuple():
            return [_cut(item, most) for item in value]
        case _:
            return value
