"""Messages as MessagePack maps: bytes to plain dicts and back.

This is the light side of the wire, for clients: the `msgpack` package alone, and before it has been imported, which the
first large message or the thirty-third does, `ingle.wire.few`. The daemon reads the same bytes through
`ingle.wire.schema`.
"""

from __future__ import annotations

import sys

from ingle.wire import few
from ingle.wire.limits import DEPTH, FRAME_BYTES, INTEGERS

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any, Final

Message = dict[str, "Any"]
"""One message: a map with a string `t` (type)."""

_EXPECTED: Final = (ValueError, RecursionError, TypeError, OverflowError)


FEW: Final = 32
"""Messages that are cheaper to handle in plain Python than with a package that has to be imported."""

SMALL: Final = 4096
"""Bytes of a message for which that is so."""

_handled = 0
_package: Any = sys.modules.get("msgpack")


class Unreadable(ValueError):
    """The bytes are not one message: not MessagePack, not a map with `t`, too large or too deep."""


def pack(message: Message) -> bytes:
    """Return the bytes of one message.

    Raises Unreadable when the message holds something that MessagePack cannot carry, is deeper than `DEPTH`, or
    its bytes are more than `FRAME_BYTES`.
    """
    check_depth(message)
    try:
        data: bytes = _packb(message) if _package is None else _package.packb(message)
    except OverflowError as error:
        raise Unreadable(f"message cannot be packed: {_too_large(message) or error}") from error
    except _EXPECTED as error:
        raise Unreadable(f"message cannot be packed: {error}") from error
    if len(data) > FRAME_BYTES:
        raise Unreadable(f"message has {len(data)} bytes, the limit is {FRAME_BYTES}")
    return data


def unpack(data: bytes | memoryview) -> Message:
    """Return the message in the bytes. Raises Unreadable for anything else than one map with a string `t`."""
    if len(data) > FRAME_BYTES:
        raise Unreadable(f"message has {len(data)} bytes, the limit is {FRAME_BYTES}")
    try:
        message = _unpackb(data) if _package is None else _package.unpackb(data)
    except _EXPECTED as error:
        raise Unreadable(f"not MessagePack: {error}") from error
    if type(message) is not dict or type(message.get("t")) is not str:
        raise Unreadable("not a map with a string 't'")
    return message


def _too_large(value: object, at: str = "") -> str:
    """Return which number is too large, in words; nothing where none is."""
    if isinstance(value, dict):
        items = [(f"{at}.{key}" if at else str(key), one) for key, one in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{at}[{number}]", one) for number, one in enumerate(value)]
    else:
        return f"{at} is a number of more than 64 bits" if isinstance(value, int) and value not in INTEGERS else ""
    return next((found for path, one in items if (found := _too_large(one, path))), "")


def _enough() -> bool:
    """Count a message, and return whether to handle it with the package from now on."""
    global _handled, _package
    _handled += 1
    if _package is None and (_handled > FEW or "msgpack" in sys.modules):
        _package = _imported()
    return _package is not None


def _imported() -> Any:
    import msgpack

    return msgpack


def _packb(message: Message) -> bytes:
    if not _enough():
        try:
            return few.pack(message)
        except few.Unusual:
            pass
    data: bytes = _imported().packb(message)
    return data


def _unpackb(data: bytes | memoryview) -> Any:
    if len(data) <= SMALL and not _enough():
        try:
            return few.unpack(bytes(data))
        except few.Unusual:
            pass
    return _imported().unpackb(data)


def check_depth(value: object, left: int = DEPTH) -> None:
    """Raise Unreadable when maps and arrays are nested more than `left` deep."""
    if isinstance(value, dict):
        values = value.values()
    elif isinstance(value, list | tuple):
        values = value  # type: ignore[assignment]
    else:
        return
    if left == 0:
        raise Unreadable(f"nested deeper than {DEPTH}")
    for item in values:
        check_depth(item, left - 1)
