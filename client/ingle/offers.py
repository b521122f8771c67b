"""Hooks that a session offers, and the calls of them that wait for a reply. PURE: a part of `ingle.session`.

An offer outlives its connection: after a reconnect it is made again by itself. A call does not: its number means
nothing to another connection, so a reply that comes too late for its connection is dropped here.
"""

from __future__ import annotations

from ingle.wire.codec import Message

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any

HOOKS = 0
"""The ref under which `hook_call` and `hook_end` arrive; refs of questions begin at 1."""


class Offers:
    """What is offered, under which refs, and which calls are open on this connection."""

    def __init__(self) -> None:
        self.connection = 0
        """Number of the present connection; goes with a reply."""
        self.replied = False
        """A reply has been sent on this connection: a `failed` without ref is about that."""
        self._by_name: dict[str, Message] = {}
        self._by_ref: dict[int, str] = {}
        self._calls: set[int] = set()

    def opened(self) -> list[Message]:
        """A connection is there: return the offers to make on it."""
        self.connection += 1
        self.replied = False
        self._calls.clear()
        return list(self._by_name.values())

    def add(self, ref: int, offer: Message) -> None:
        """Offer this from now on. An earlier offer of the same name is replaced."""
        self._by_name[offer["name"]] = offer
        self._by_ref[ref] = offer["name"]

    def drop(self, name: str) -> None:
        """Offer this no more."""
        offer = self._by_name.pop(name, None)
        if offer is not None:
            self._by_ref.pop(offer["ref"], None)

    def answered(self, ref: Any, message: Message) -> bool:
        """Return whether a `result` or `failed` is the answer to an offer; one that is refused is not made again."""
        name = self._by_ref.get(ref)
        if name is None:
            return False
        if message["t"] == "failed":
            self.drop(name)
        return True

    def called(self, message: Message) -> Message:
        """Keep in mind that a call waits for its reply; returns it with the number of its connection."""
        call = message["call"]
        if type(call) is not int:
            raise TypeError(f"call is {call!r}")
        if call:
            self._calls.add(call)
        return message | {"connection": self.connection}

    def may_reply(self, call: Message) -> bool:
        """Return whether the daemon waits for a reply to this call, and let it wait no more."""
        if call["connection"] != self.connection or call["call"] not in self._calls:
            return False
        self._calls.remove(call["call"])
        self.replied = True
        return True
