"""Placeholders and what they stand for: `[EMAIL_1]` is one mail address throughout a request. Pure.

A placeholder is never one that the messages already contain in any spelling, so that a text like `[EMAIL_1]` in a
prompt stays that text in the answer.
"""

from collections.abc import Iterable

import msgpack
from ingled.hooks import Dictionary, Handler

from ingle_plugins.linear import compiled

WRITTEN = r"(?i)(?:\[|\x{FF3B}) ?([a-z]{2,16})(?:[ _-]|\\_)?([0-9]{1,6}) ?\\?(?:\]|\x{FF3D})"


class Vault:
    """Gives out placeholders for originals."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.originals: dict[str, str] = {}
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._taken = {
            (label.upper(), int(number)) for text in texts for label, number in compiled(WRITTEN).findall(text)
        }

    def placeholder(self, kind: str, original: str) -> str:
        """Return the placeholder of this original, the same one every time."""
        known = self._placeholders.get(original)
        if known is not None:
            return known
        label = kind.upper()
        number = self._counts.get(label, 0) + 1
        while (label, number) in self._taken:
            number += 1
        self._counts[label] = number
        made = f"[{label}_{number}]"
        self.originals[made] = original
        self._placeholders[original] = made
        return made

    def state(self) -> bytes:
        """Return what `restorer` needs."""
        return bytes(msgpack.packb(self.originals))


def restorer(state: bytes) -> Handler:
    """Return a handler that puts the originals back, also where a model writes a placeholder a little differently."""
    originals: dict[str, str] = msgpack.unpackb(state)
    return Dictionary(
        {spelling: original for made, original in originals.items() for spelling in spellings(made)}, ignore_case=True
    )


def spellings(placeholder: str) -> list[str]:
    """Return how models write a placeholder: with another separator, with spaces, escaped for Markdown or LaTeX."""
    label, number = placeholder[1:-1].split("_")
    bodies = [f"{label}{separator}{number}" for separator in ("_", " ", "-", "", r"\_")]
    brackets = [
        f"[ {label}_{number} ]",
        rf"\[{label}_{number}\]",
        rf"\[{label}\_{number}\]",
        f"\uff3b{label}_{number}\uff3d",
    ]
    return [*(f"[{body}]" for body in bodies), *brackets]
