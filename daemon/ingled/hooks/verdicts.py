"""What a hook can say of what it was shown. Returning None says: unchanged. Pure."""

from dataclasses import dataclass, field
from typing import Any

from ingle.wire.hook_schema import Verdict as Kind


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision; made by the functions below."""

    kind: Kind
    value: Any = None
    reason: str = ""
    note: dict[str, Any] = field(default_factory=dict)


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
