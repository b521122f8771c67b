"""Messages as MessagePack maps: bytes to plain dicts and back.

This is the light side of the wire, for clients: the `msgpack` package alone. The daemon reads the same bytes
through `ingle.wire.schema`.
"""

from __future__ import annotations

import msgpack

from ingle.wire.limits import DEPTH, FRAME_BYTES

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any, Final

Message = dict[str, "Any"]
"""One message: a map with a string `t` (type)."""

_EXPECTED: Final = (ValueError, RecursionError, TypeError, OverflowError)


class Unreadable(ValueError):
    """The bytes are not one message: not MessagePack, not a map with `t`, too large or too deep."""


def pack(message: Message) -> bytes:
    """Return the bytes of one message.

    Raises Unreadable when the message holds something that MessagePack cannot carry, is deeper than `DEPTH`, or
    its bytes are more than `FRAME_BYTES`.
    """
    check_depth(message)
    try:
        data: bytes = msgpack.packb(message)
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
        message = msgpack.unpackb(data)
    except _EXPECTED as error:
        raise Unreadable(f"not MessagePack: {error}") from error
    if type(message) is not dict or type(message.get("t")) is not str:
        raise Unreadable("not a map with a string 't'")
    return message


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
