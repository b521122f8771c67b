"""JSON for a program that ends after a few messages: importing `json` takes it 6 ms, nearly all of them for `re`.

The same C code does the work, asked without it. What is unusual is left to `json`, which also says what is wrong with a
text; a test compares the two.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class _Rules:
    """What the C code asks about reading: all as `json.loads` has it."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def _base64(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} has no form in JSON")
    from binascii import b2a_base64

    return b2a_base64(value, newline=False).decode()


_scan: Callable[[str, int], tuple[Any, int]] | None = None
_encode: Callable[[Any, int], Iterable[str]] | None = None
try:
    import _json

    _scan = _json.make_scanner(_Rules)  # type: ignore[arg-type]  # it asks for attributes, not for a type
    _encode = _json.make_encoder(None, _base64, _json.encode_basestring, None, ": ", ", ", False, False, True)
except (ImportError, AttributeError, TypeError):  # another Python than those that were looked at: `json` does it all
    pass


def read(line: bytes) -> Any:
    """Return the value that a line is. Raises ValueError, which says what is wrong, or RecursionError."""
    if _scan is not None:
        try:
            text = line.decode().strip(" \t\r\n")
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (ValueError, StopIteration):
            pass
    import json

    return json.loads(line)


def written(value: Any) -> str:
    """Return a value on one line, in Unicode; bytes become base64. Raises TypeError for what has no form in JSON."""
    return pretty(value, None) if _encode is None else "".join(_encode(value, 0))


def pretty(value: Any, indent: int | None = 2) -> str:
    """Return a value for people; else as `written`."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=indent, default=_base64)
