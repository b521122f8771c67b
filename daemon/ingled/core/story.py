"""A bounded memory of what happened to one thing, printed when something goes wrong with it."""

from collections import deque


class Story:
    """The last events of one model, oldest first."""

    __slots__ = ("_lines",)

    def __init__(self, length: int = 32) -> None:
        self._lines: deque[tuple[float, str]] = deque(maxlen=length)

    def add(self, now: float, line: str) -> None:
        """Remember a line; equal lines in a row are kept once, with their last time."""
        if self._lines and self._lines[-1][1] == line:
            self._lines.pop()
        self._lines.append((now, line))

    def lines(self, now: float) -> list[str]:
        """Return the lines with their age in seconds."""
        return [f"{now - at:.1f} s ago: {line}" for at, line in self._lines]
