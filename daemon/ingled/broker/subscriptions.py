"""Who wants to hear of what: events as credited streams. An account hears of its own, and of all with a right;
of models, of those that it may use. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingle.wire.limits import CREDIT
from ingle.wire.schema import Event

from ingled.core.accounts import Caller

TOPICS = ("model", "request", "daemon", "hook")
MOST = 16
"""Most subscriptions of one connection."""


@dataclass(slots=True)
class Subscription:
    """One subscriber; events that find no credit are counted as lost."""

    id: str
    conn: int
    caller: Callable[[], Caller]
    """Who it is by now: rules change."""
    topics: frozenset[str]
    credit: int
    lost: int = 0


class Subscriptions:
    """All subscribers."""

    def __init__(self) -> None:
        self._by_id: dict[str, Subscription] = {}

    def add(self, subscription: Subscription) -> bool:
        """Take a subscriber; False when its connection has too many."""
        if sum(one.conn == subscription.conn for one in self._by_id.values()) >= MOST:
            return False
        self._by_id[subscription.id] = subscription
        return True

    def remove(self, id: str, conn: int) -> bool:
        """Forget a subscription of this connection; returns whether it was one."""
        found = self._by_id.get(id)
        if found is None or found.conn != conn:
            return False
        del self._by_id[id]
        return True

    def gone(self, conn: int) -> None:
        """Forget the subscriptions of a connection."""
        for id in [id for id, one in self._by_id.items() if one.conn == conn]:
            del self._by_id[id]

    def credit(self, conn: int, id: str, n: int) -> bool:
        """The subscriber can take `n` more events; returns whether this is a subscription."""
        found = self._by_id.get(id)
        if found is None or found.conn != conn:
            return False
        found.credit = min(CREDIT, found.credit + n)
        return True

    def publish(self, topic: str, value: dict[str, Any], account: str | None) -> list[tuple[int, Event]]:
        """Return the events to send, by connection."""
        out = []
        for one in self._by_id.values():
            if topic not in one.topics:
                continue
            caller = one.caller()
            if topic == "model" and not caller.rights.uses(value["model"]):
                continue
            if account is not None and not caller.sees(account):
                continue
            if one.credit == 0:
                one.lost += 1
                continue
            one.credit -= 1
            out.append((one.conn, Event(one.id, topic, value, one.lost)))
            one.lost = 0
        return out
