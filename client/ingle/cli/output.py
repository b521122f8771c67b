"""How results look: aligned tables, numbers for people, JSON for programs, colours for terminals."""

from __future__ import annotations

import os
import sys

from ingle.cli.json_text import pretty, written

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CONTROL = (*range(9), *range(11, 32), *range(127, 160))
"""What moves a terminal's cursor, paints or worse; newline and tab may pass."""

_SILENCED = dict.fromkeys(_CONTROL)
_ESCAPED = {n: f"\\x{n:02x}" for n in _CONTROL} | {9: "\\t", 10: "\\n", 13: "\\r"}
_ESCAPED |= {n: f"\\u{n:04x}" for n in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_ESCAPED_LINES = {n: text for n, text in _ESCAPED.items() if n not in (9, 10)}
_ESCAPED_IN_JSON = {n: f"\\u{n:04x}" for n in range(127, 160)}
"""JSON itself escapes only those below 32."""


_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32}


class CannotWrite(Exception):
    """Standard output does not take what is printed."""


class ReaderLeft(CannotWrite):
    """Whoever read standard output has left, as `head` does."""


def visible(text: str, *, lines: bool = False) -> str:
    """Return a text of others for a table or a message: what would command a terminal, or turn letters around,
    is escaped. With `lines`, newline and tab may pass.
    """
    return text.translate(_ESCAPED_LINES if lines else _ESCAPED)


def next_step(model: dict[str, Any]) -> str:
    """Return what may be done about a model that has failed."""
    return f"`ingle load {model['name']}` tries again"


def put(text: str) -> None:
    """Print text at once, as UTF-8 whatever the locale says. Raises CannotWrite.

    All that goes to standard output goes through here.
    """
    if sys.stdout is None:  # it was closed when we started
        raise CannotWrite("Bad file descriptor")
    try:
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
        sys.stdout.buffer.flush()
    except OSError as error:
        _abandon(sys.stdout)
        kind = ReaderLeft if isinstance(error, BrokenPipeError) else CannotWrite
        raise kind(error.strerror or str(error)) from error


def print_line(text: str) -> None:
    """Print a line of text that may hold anything."""
    put(visible(text) + "\n")


def note(text: str) -> None:
    """Print text on standard error; when that cannot be written, nobody can be told."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: Any) -> None:
    """Let go where it may what a stream still holds: the interpreter would complain about it when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def is_terminal(stream: Any) -> bool:
    """Return whether a person looks at the stream."""
    return stream is not None and bool(stream.isatty())


def paint(text: str, style: str, stream: Any = None) -> str:
    """Return the text in a style, where that is wanted and can be seen."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"  # an empty one is none
    if plain or not is_terminal(stream or sys.stdout):
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def write(text: str) -> None:
    """Print a model's text, as it is; on a terminal without control characters."""
    put(text.translate(_SILENCED) if is_terminal(sys.stdout) else text)


def write_aside(text: str) -> None:
    """Print what a model thinks, dim, on standard error."""
    note(paint(text.translate(_SILENCED) if is_terminal(sys.stderr) else text, "dim", sys.stderr))


def print_json(value: Any, *, line: bool = False) -> None:
    """Print a value as JSON: indented for people, or on one line of a stream. Bytes become base64."""
    text = written(value) if line else pretty(value)
    put(text.translate(_ESCAPED_IN_JSON) + "\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print rows in aligned columns; those named in `right` are aligned to the right."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]

    def laid(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    lines = [paint(laid(headings), "bold"), *map(laid, rows)]
    put("\n".join(lines) + "\n")


def text_of(value: Any) -> str:
    """Return a value for a table's cell; what is not known is a dash."""
    return "-" if value is None or value == "" else str(value)


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
        self._last = ""
        self._on = is_terminal(sys.stderr) and os.environ.get("TERM", "dumb") != "dumb"
        self._always = always

    def show(self, text: str) -> None:
        """Replace the line; what is longer than a line of the terminal is cut off, for only one can be taken away.

        What was shown last is not shown again.
        """
        text = visible(text)
        if text == self._last:
            return
        self._last = text
        if self._on:
            shown = paint(text[: max(1, _columns(sys.stderr) - 1)], "dim", sys.stderr)
            note(f"\r\x1b[K{shown}")
            self._shown = True
        elif self._always:
            note(f"{text}\n")

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            note("\r\x1b[K")
            self._shown = False
            self._last = ""


def _columns(terminal: Any) -> int:
    """Return how many letters a line of a terminal has, or 80 where it does not say."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
