"""MessagePack in plain Python, for a program that ends after a few small messages: importing `msgpack` takes it 5 ms.

It knows what is in them; of all else it says `Unusual`, and `ingle.wire.codec` asks the package. The bytes are the
same, and so are the values; a test compares them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any


class Unusual(Exception):
    """This is for the real thing, which may find that it is wrong."""


def pack(value: Any) -> bytes:
    """Return the bytes of a value. Raises Unusual."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: Any, out: bytearray) -> None:
    kind = type(value)
    if kind is str:
        data = value.encode()
        _head(out, len(data), 0xA0, 32, 0xD9)
        out += data
    elif kind is dict:
        _head(out, len(value), 0x80, 16, 0xDD)
        for key, one in value.items():
            _pack(key, out)
            _pack(one, out)
    elif kind is list or kind is tuple:
        _head(out, len(value), 0x90, 16, 0xDB)
        for one in value:
            _pack(one, out)
    elif kind is bool:
        out.append(0xC3 if value else 0xC2)
    elif value is None:
        out.append(0xC0)
    elif kind is int and 0 <= value < 128:
        out.append(value)
    elif kind is int and 0 <= value < 1 << 32:
        power = 0 if value < 1 << 8 else 1 if value < 1 << 16 else 2
        out.append(0xCC + power)
        out += value.to_bytes(1 << power, "big")
    else:
        raise Unusual(kind)


def _head(out: bytearray, size: int, small: int, fits: int, wide: int) -> None:
    """`wide` is the tag of a size of one byte, which text alone has; the next one is of two."""
    if size < fits:
        out.append(small | size)
    elif size < 0x100 and wide == 0xD9:
        out += bytes((wide, size))
    elif size < 0x10000:
        out.append(wide + 1)
        out += size.to_bytes(2, "big")
    else:
        raise Unusual(size)


def unpack(data: bytes) -> Any:
    """Return the value in the bytes. Raises Unusual."""
    try:
        value, end = _unpack(data, 0)
    except (IndexError, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise Unusual(error) from error
    if end != len(data):
        raise Unusual(end)
    return value


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    tag = data[at]
    at += 1
    if tag < 0x80:
        return tag, at
    if tag < 0x90 or tag == 0xDE:
        size, at = (tag & 15, at) if tag < 0x90 else _size(data, at, 2)
        found: dict[Any, Any] = {}
        for _ in range(size):
            key, at = _unpack(data, at)
            if type(key) is not str:
                raise Unusual(key)
            found[key], at = _unpack(data, at)
        return found, at
    if tag < 0xA0 or tag == 0xDC:
        size, at = (tag & 15, at) if tag < 0xA0 else _size(data, at, 2)
        items = []
        for _ in range(size):
            one, at = _unpack(data, at)
            items.append(one)
        return items, at
    if tag < 0xC0 or tag in (0xD9, 0xDA):
        size, at = (tag & 31, at) if tag < 0xC0 else _size(data, at, tag - 0xD8)
        end = at + size
        if end > len(data):
            raise Unusual(end)
        return data[at:end].decode(), end
    if 0xCC <= tag <= 0xCF:
        return _size(data, at, 1 << (tag - 0xCC))
    if tag == 0xCB and at + 8 <= len(data):
        from _struct import unpack_from

        return unpack_from(">d", data, at)[0], at + 8
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    raise Unusual(tag)


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _size(data: bytes, at: int, width: int) -> tuple[int, int]:
    if at + width > len(data):
        raise Unusual(at)
    return int.from_bytes(data[at : at + width], "big"), at + width
