"""All hooks that are offered: who may take part in which request, in which order, and how they have done. Pure."""

from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from ingle.wire.hook_schema import HookOffer, Point

from ingled.core.accounts import MEMBER, Rights

TRIP_AFTER = 5
"""Failures in a row after which a hook is not called for a while."""
TRIP_S = 30.0
TRIP_MOST_S = 600.0
"""How long, at first; doubled each time up to the most."""
TIMES = 512
"""Calls over which the percentiles are taken."""


@dataclass(frozen=True, slots=True)
class Who:
    """Whose request it is, for the selection of hooks."""

    account: str
    conn: int | None
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """How a hook has done; it goes on when another host of plugins offers the same hook."""

    calls: int = 0
    failed: int = 0
    row: int = 0
    """Failures in a row."""
    trips: int = 0
    tripped_until: float = 0.0
    why: str = ""
    """Its last failure."""
    times: deque[int] = field(default_factory=lambda: deque(maxlen=TIMES))

    def worked(self, us: int) -> None:
        """Count a call that went well."""
        self.calls += 1
        self.row = self.trips = 0
        self.times.append(us)

    def failed_at(self, now: float, why: str) -> bool:
        """Count a call that failed; returns whether the hook has tripped with it."""
        self.calls += 1
        self.failed += 1
        self.row += 1
        self.why = why
        if self.row < TRIP_AFTER or now < self.tripped_until:
            return False
        self.tripped_until = now + min(TRIP_MOST_S, TRIP_S * 2**self.trips)
        self.trips += 1
        self.row = TRIP_AFTER - 1  # one more failure trips it again
        return True

    def anew(self) -> "Tally":
        """Return the tally of a hook that has changed: what it failed at before is not held against it."""
        return Tally(self.calls, self.failed, times=self.times)


@dataclass(slots=True)
class Entry:
    """A hook that is offered."""

    offer: HookOffer
    provider: str
    """`group:NAME` for a host of plugins, `conn:NUMBER` for a connection."""
    account: str | None = None
    """Of the connection that offers it; None for a plugin."""
    conn: int | None = None
    rights: Rights = MEMBER
    """Of the account that offers it."""
    label: str = "plugin"
    source: str = ""
    broken: str = ""
    """Why it cannot run: its `on_error` is applied to every request."""
    digest: str = ""
    """Of a plugin's file, and of what the configuration says of it."""
    placed: bool = False
    """The configuration has set its order."""
    tally: Tally = field(default_factory=Tally)

    @property
    def name(self) -> str:
        """Return the name under which its provider knows it."""
        return self.offer.name

    @property
    def key(self) -> str:
        """Return its name among all hooks: two accounts may offer the same one."""
        return self.offer.name if self.account is None else f"{self.account}/{self.offer.name}"

    def out_of_order(self, now: float) -> str:
        """Return why it is not called now; nothing when it is."""
        if self.broken:
            return self.broken
        tally = self.tally
        return f"tripped after {TRIP_AFTER} failures in a row: {tally.why}" if now < tally.tripped_until else ""

    @property
    def refuses(self) -> bool:
        """A request at which it fails does not go on: it says so, or it is for security."""
        return (self.offer.on_error == "refuse" or self.offer.security) and not self.offer.trial

    @property
    def guards(self) -> bool:
        """Nothing may pass by it."""
        return self.offer.security and not self.offer.trial

    def gone(self, why: str) -> "Entry":
        """Return what stands for it where a request meets it that cannot be called any more."""
        return replace(self, broken=why)

    @property
    def edition(self) -> tuple[str, str, str]:
        """Return what is another when the plugin has changed."""
        return self.offer.version, self.source, self.digest

    def sees(self, who: Who, model: Set[str]) -> bool:
        """Return whether a request is any of its business: by scope, then by selection; `model` has all its names."""
        offer = self.offer
        if offer.scope == "account" and self.account not in (None, who.account):
            return False
        if offer.scope == "connection" and (self.conn is None or self.conn != who.conn):
            return False
        select = offer.select
        return (
            (not select.models or not model.isdisjoint(select.models))
            and (not select.accounts or who.account in select.accounts)
            and (not select.tags or not set(select.tags).isdisjoint(who.tags))
        )

    def describe(self, now: float, whole: bool) -> dict[str, Any]:
        """Return what `ingle hooks` shows; what it failed at only with `whole`, as that may quote a prompt."""
        offer, tally, times = self.offer, self.tally, sorted(self.tally.times)
        wrong = self.out_of_order(now)
        state = "broken" if self.broken else "tripped" if wrong else "trial" if offer.trial else "active"
        return {
            "name": offer.name,
            "version": offer.version,
            "provider": self.label,
            "account": self.account,
            "points": list(offer.points),
            "order": offer.order,
            "scope": offer.scope,
            "state": state,
            "why": (wrong if whole or self.broken else "it failed again and again") if wrong else None,
            "calls": tally.calls,
            "failures": tally.failed,
            "last_failure": tally.why or None if whole else None,
            "p50_us": times[len(times) // 2] if times else None,
            "p99_us": times[int(len(times) * 0.99)] if times else None,
            "select": {name: list(getattr(offer.select, name)) for name in ("models", "accounts", "tags")},
            "deadline_ms": offer.deadline_ms,
            "on_error": "refuse" if self.refuses else offer.on_error,
            "security": offer.security,
            "source": self.source or None,
        }


def place(entry: Entry) -> tuple[int, str, str]:
    """Return where a hook stands in the chain."""
    return entry.offer.order, entry.offer.name, entry.key


class Registry:
    """The hooks, in the order of the chain."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.edits = 0
        """How often the hooks have changed."""
        self._plugins: dict[str, tuple[tuple[str, str, str], Tally]] = {}
        """Of plugins, by name, the edition and how it has done: also of one that is not there for a while."""
        self._by_point: dict[str, list[Entry]] = {point: [] for point in get_args(Point)}

    def put(self, entry: Entry) -> None:
        """Take a hook in, or another version of it; what was counted of it stays.

        A plugin that has tripped stays so until its time is over or it has changed, whatever host it runs in.
        """
        if entry.account is not None:
            old = self.entries.get(entry.key)
            if old is not None:
                entry.tally = old.tally.anew()
        elif (known := self._plugins.get(entry.key)) is not None:
            same = entry.broken or known[0] == entry.edition
            entry.tally = known[1] if same else known[1].anew()
        if entry.account is None and not entry.broken:
            self._plugins[entry.key] = entry.edition, entry.tally
        self.entries[entry.key] = entry
        self._sort()

    def remove(self, keys: Iterable[str]) -> list[Entry]:
        """Forget hooks; returns those that there were."""
        gone = [self.entries.pop(key) for key in list(keys) if key in self.entries]
        if gone:
            self._sort()
        return gone

    def of(self, provider: str) -> list[Entry]:
        """Return what a provider offers."""
        return [entry for entry in self.entries.values() if entry.provider == provider]

    def named(self, provider: str, name: str) -> Entry | None:
        """Return the hook that a provider knows under this name; a plugin may have another host by now."""
        if not provider.startswith("conn:"):
            return self.entries.get(name)
        return next((entry for entry in self.of(provider) if entry.name == name), None)

    def any_at(self, point: Point) -> bool:
        """Return whether anybody takes part at this point."""
        return bool(self._by_point[point])

    def select(self, point: Point, who: Who, model: Set[str]) -> list[Entry]:
        """Return the hooks that a request meets at a point, in order."""
        found = self._by_point[point]
        return [entry for entry in found if entry.sees(who, model)] if found else []

    def _sort(self) -> None:
        self.edits += 1
        ordered = sorted(self.entries.values(), key=place)
        for point, entries in self._by_point.items():
            entries[:] = _guarded(point, [entry for entry in ordered if point in entry.offer.points])


def _guarded(point: str, entries: list[Entry]) -> list[Entry]:
    """Put hooks from outside on the client's side of plugins for security, unless the configuration places them.

    Else a client could change what such a plugin has let pass, or what it is to see.
    """
    guards = [index for index, entry in enumerate(entries) if entry.account is None and entry.guards]
    if not guards:
        return entries
    if point in ("request", "prompt"):
        before, behind = entries[: guards[0]], entries[guards[0] :]
        outside = [entry for entry in behind if _outside(entry)]
        return [*before, *outside, *(entry for entry in behind if not _outside(entry))]
    before, behind = entries[: guards[-1] + 1], entries[guards[-1] + 1 :]
    outside = [entry for entry in before if _outside(entry)]
    return [*(entry for entry in before if not _outside(entry)), *outside, *behind]


def _outside(entry: Entry) -> bool:
    return entry.account is not None and not entry.placed
