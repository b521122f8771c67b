"""A hook that takes the marks of Markdown's bold out of answers as they come.

python plugins/examples/plain.py
"""

from ingle.hooks import hook, run


@hook(point="chunk", name="plain", tags=["shell"], hold_chars=1, hold_ms=200)
class Plain:
    """Text comes cut anywhere: a star at the end is held back until it is known whether another one follows."""

    def __init__(self) -> None:
        self._rest = ""

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return len(self._rest)

    def feed(self, text: str) -> str:
        """Take text, and return what may go out."""
        text = (self._rest + text).replace("**", "")
        self._rest = "*" if text.endswith("*") else ""
        return text.removesuffix("*")

    def flush(self) -> str:
        """Return all that is held."""
        rest, self._rest = self._rest, ""
        return rest


if __name__ == "__main__":
    run()
