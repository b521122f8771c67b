"""The end of a log file: of a worker, the nursery, or hook hosts."""

import re
from pathlib import Path

LINES = 20
TAIL_BYTES = 64 << 10
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def read_lines(log: Path, start: int = 0, most: int = 1 << 20) -> list[str]:
    """Return the lines at the end of a log, at most `most` bytes of it and none before `start`; progress bars count
    as lines, colours and empty lines are left out. Nothing when it cannot be read.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - most))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in re.split(r"[\r\n]+", _COLOUR.sub("", text)) if line.strip()]


def tail(log: Path) -> tuple[str, ...]:
    """Return the last lines of a log."""
    return tuple(read_lines(log, most=TAIL_BYTES)[-LINES:])
