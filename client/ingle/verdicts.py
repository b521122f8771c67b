"""What a hook can say of what it was shown. Returning None says: unchanged. PURE, and cheap to import.

Plugins have these words from `ingled.hooks`: a function can move from one side to the other.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingle.wire.hook_schema import Verdict as Kind


class Verdict:
    """A decision; made by the functions below."""

    __slots__ = ("kind", "note", "reason", "value")

    def __init__(self, kind: "Kind", value: Any = None, reason: str = "", note: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.value = value
        self.reason = reason
        self.note = note or {}

    def __repr__(self) -> str:
        return f"Verdict({self.kind!r}, {self.value!r}, {self.reason!r}, {self.note!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and all(getattr(self, key) == getattr(other, key) for key in self.__slots__)

    __hash__ = None  # type: ignore[assignment]


def changed(value: Any, **notes: Any) -> Verdict:
    """Go on with this instead: a request, messages, or the text of an answer, as the point has it.

    `notes` stand in the reply's list of hooks: plain values, and nothing secret.
    """
    return Verdict("changed", value, note=notes)


def note(**notes: Any) -> Verdict:
    """Change nothing, and say this in the reply's list of hooks."""
    return Verdict("unchanged", note=notes)


def refuse(reason: str, **notes: Any) -> Verdict:
    """The request ends here with `refused_by_hook`; its client reads the reason."""
    return Verdict("refuse", reason=reason, note=notes)


def answered(text: str, **notes: Any) -> Verdict:
    """At `prompt`: this is the answer; no model is asked."""
    return Verdict("answer", text, note=notes)


class Stop(Exception):
    """Raised by a chunk handler: nothing more of this answer, and the engine stops. `text` is still given out."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.reason, self.text = reason, text
