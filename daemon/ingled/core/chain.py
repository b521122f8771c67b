"""The way of one request through its hooks at one point: a fold, hop by hop. Pure.

Consecutive hooks of one provider are one hop. What a hook that failed had done is dropped: the value goes on as it was
before it. Nothing here knows requests, timers or sockets; `ingled.core.pipeline` drives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ingle.wire.hook_schema import HookResult, Point

from ingled.core.registry import Entry

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hop:
    """Hooks that one message reaches."""

    provider: str
    entries: tuple[Entry, ...]

    @property
    def trial(self) -> bool:
        """What it answers is only reported."""
        return self.entries[0].offer.trial

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its hooks, as their provider knows them."""
        return tuple(entry.name for entry in self.entries)

    @property
    def confirms(self) -> bool:
        """All of its hooks answer also where nobody waits for them: plugins do, and clients that say so."""
        return all(entry.account is None or entry.offer.confirms for entry in self.entries)

    @property
    def deadlines(self) -> tuple[int, ...]:
        """Return how many milliseconds each of its hooks may take."""
        return tuple(entry.offer.deadline_ms for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the chain ended."""

    kind: Literal["go", "refused", "answered", "failed"]
    value: Value
    hook: str = ""
    """Whose decision it was."""
    reason: str = ""


@dataclass(slots=True)
class Chain:
    """The hooks that a request has still to pass at a point, and what has been made of its value."""

    point: Point
    value: Value
    hops: list[Hop]
    ran: list[dict[str, Any]] = field(default_factory=list)
    """What `done.hooks` will say."""
    trace: bool = False
    edits: int = 0
    """Changes of the registry that it knows of."""

    @property
    def hop(self) -> Hop | None:
        """Return the hop that is due."""
        return self.hops[0] if self.hops else None

    def tell(self, entry: Entry, verdict: str, us: int, why: str = "", note: Value | None = None) -> None:
        """Note what a hook did."""
        self.ran.append(told(entry, self.point, verdict, us, why, note))

    def broken_off(self, why: str) -> list[Value]:
        """Return what is to be said of the hooks that are at work."""
        hop = self.hop
        return [] if hop is None else [told(entry, self.point, "skipped", 0, why) for entry in hop.entries]


def told(entry: Entry, point: Point, verdict: str, us: int, why: str = "", note: Value | None = None) -> Value:
    """Return what `done.hooks` says of a hook."""
    one: Value = {"name": entry.name, "version": entry.offer.version, "point": point, "verdict": verdict, "us": us}
    if why:
        one["why"] = why
    if entry.offer.trial:
        one["trial"] = True
    if note:
        one["note"] = note
    return one


def hops(entries: Sequence[Entry], alone: bool = False) -> list[Hop]:
    """Group hooks, in their order, by provider; one on trial travels alone, and with `alone` each one does."""
    found: list[Hop] = []
    for entry in entries:
        last = found[-1] if found else None
        if last and not alone and last.provider == entry.provider and not (last.trial or entry.offer.trial):
            found[-1] = Hop(last.provider, (*last.entries, entry))
        else:
            found.append(Hop(entry.provider, (entry,)))
    return found


def start(
    point: Point, value: Value, entries: Sequence[Entry], now: float, trace: bool
) -> tuple[Chain, Outcome | None]:
    """Begin; hooks that are out of order are skipped, or refuse the request, as they say."""
    chain = Chain(point, value, [], trace=trace)
    return chain, go_on(chain, entries, now)


def go_on(chain: Chain, entries: Sequence[Entry], now: float) -> Outcome | None:
    """Have these hooks due from now on, but for those that are out of order; returns the outcome if there is one."""
    good: list[Entry] = []
    chain.hops = []
    for entry in entries:
        why = entry.out_of_order(now)
        if not why:
            good.append(entry)
        elif entry.refuses:
            chain.tell(entry, "skipped", 0, why)
            return Outcome("failed", chain.value, entry.name, why)
        else:
            chain.tell(entry, "skipped", 0, why)
    chain.hops = hops(good, alone=chain.trace)
    return None if chain.hops else Outcome("go", chain.value)


def replied(chain: Chain, results: Sequence[HookResult], value: Value | None) -> Outcome | None:
    """Take what a hop answered; returns the outcome, or None when another hop is due.

    The caller counts failures and states. A reply that does not fit its call has been refused before.
    """
    hop = chain.hops.pop(0)
    before = chain.value
    decision: HookResult | None = None
    for entry, result in zip(hop.entries, results, strict=False):
        chain.tell(entry, result.verdict, result.us, result.reason, result.note)
        if result.verdict == "error" and entry.refuses:
            return Outcome("failed", before, entry.name, result.reason)
        decision = result
    if hop.trial or decision is None:
        return None if chain.hops else Outcome("go", chain.value)
    if decision.verdict in ("refuse", "stop"):
        return Outcome("refused", before, decision.hook, decision.reason)
    if decision.verdict == "answer":
        return Outcome("answered", value or {}, decision.hook)
    if value is not None and any(result.verdict == "changed" for result in results):
        chain.value = {key: value.get(key, old) for key, old in before.items()}  # and nothing else that it may say
        if chain.trace:
            chain.ran[-1] |= {"before": before, "after": chain.value}
    return None if chain.hops else Outcome("go", chain.value)


def failed(chain: Chain, blamed: Sequence[str], why: str) -> Outcome | None:
    """The hop that is due did not answer.

    `blamed` are the names of its hooks that were at work; none: all of them. They are skipped, and the others of the
    hop are due again; unless one of the blamed says that the request is to be refused.
    """
    hop = chain.hops.pop(0)
    guilty = [entry for entry in hop.entries if not blamed or entry.name in blamed] or list(hop.entries)
    for entry in guilty:
        chain.tell(entry, "skipped", 0, why)
    refusing = next((entry for entry in guilty if entry.refuses), None)
    if refusing is not None:
        return Outcome("failed", chain.value, refusing.name, why)
    rest = tuple(entry for entry in hop.entries if entry not in guilty)
    if rest:
        chain.hops.insert(0, Hop(hop.provider, rest))
    return None if chain.hops else Outcome("go", chain.value)


def fits(hooks: Sequence[str], results: Sequence[HookResult]) -> str:
    """Return what is wrong with the results of a call; nothing when they are those of its hooks, in order."""
    names = list(hooks)
    told = [result.hook for result in results]
    if told != names[: len(told)]:
        return f"it answered for {told}, not for {names}"
    ends = [result.verdict in ("refuse", "answer", "stop") for result in results]
    if any(ends[:-1]):
        return "it went on behind a refusal or an answer"
    if len(told) < len(names) and not (ends and ends[-1]):
        return f"it answered for {told} only, of {names}"
    return ""
