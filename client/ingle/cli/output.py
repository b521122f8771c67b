"""How results look: aligned tables, numbers for people, JSON for programs, colours for terminals."""

import os
import sys
from collections.abc import Sequence
from typing import Any

_CONTROL = dict.fromkeys((*range(9), *range(11, 32), 127, *range(128, 160)))
"""What a model's text must not do to a terminal; newline and tab may pass."""


def is_terminal(stream: Any) -> bool:
    """Return whether a person looks at the stream."""
    return bool(stream.isatty())


def paint(text: str, style: str, stream: Any = None) -> str:
    """Return the text in bold or dim, where that is wanted and can be seen."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
    if plain or not is_terminal(stream or sys.stdout):
        return text
    return f"\x1b[{1 if style == 'bold' else 2}m{text}\x1b[0m"


def write(text: str) -> None:
    """Print text at once, as UTF-8 whatever the locale says; on a terminal without control characters."""
    if is_terminal(sys.stdout):
        text = text.translate(_CONTROL)
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def print_json(value: Any, *, line: bool = False) -> None:
    """Print a value as JSON: indented for people, or on one line of a stream."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=None if line else 2)
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.buffer.flush()


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print rows in aligned columns; those named in `right` are aligned to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]

    def laid(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    lines = [paint(laid(headings), "bold"), *map(laid, rows)]
    sys.stdout.write("\n".join(lines) + "\n")


def text_of(value: Any) -> str:
    """Return a value for a table's cell; what is not known is a dash."""
    return "-" if value is None or value == "" else str(value)


def size(value: float | None) -> str:
    """Return a number of bytes for people."""
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def duration(seconds: float | None) -> str:
    """Return a time span for people, in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, name, lower, lower_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name}{whole % unit // lower}{lower_name}"
    return f"{whole}s"


class StatusLine:
    """One line on standard error that is rewritten; nothing where that is not a terminal.

    With `always` it is shown there too, each time as a line of its own.
    """

    def __init__(self, *, always: bool = False) -> None:
        self._shown = False
        self._on = is_terminal(sys.stderr) and os.environ.get("TERM", "dumb") != "dumb"
        self._always = always

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._always and not self._on:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        elif self._on:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
