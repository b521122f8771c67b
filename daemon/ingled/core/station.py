"""One station of a stream's text, and the way that its stations make: what is known of each. Pure, mutable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ingle.wire.hook_schema import HookResult

from ingled.core.chain import Hop, Value, told
from ingled.core.registry import Entry


@dataclass(frozen=True, slots=True)
class StationCall:
    """Text for the handlers of a station."""

    id: str
    station: int
    """Its number within the stream."""
    hop: Hop
    text: str
    seq: int
    last: bool
    flush: bool


@dataclass(slots=True)
class Moves:
    """What is to be done after something happened to the stations."""

    calls: list[StationCall] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """By request, text that has passed all stations."""
    ended: list[str] = field(default_factory=list)
    """All text of these requests has passed."""
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    """Requests that are to fail, by which hook, and why."""
    stopped: list[tuple[str, str, str]] = field(default_factory=list)
    """Requests whose engine is to stop, by which hook, and why."""
    tripped: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Station:
    """One hop of one stream."""

    number: int
    hop: Hop
    aside: bool = False
    """It is on trial."""
    history: list[str] = field(default_factory=list)
    """All text that it was given."""
    inbox: list[str] = field(default_factory=list)
    flying: str | None = None
    """The text of the call that is outstanding."""
    flushing: bool = False
    seq: int = 0
    base: int = 0
    """Characters of its text that passed while it had other handlers: these see them, and nothing of it goes out."""
    prefix: str | None = None
    """These characters, while they are due."""
    void: bool = False
    """The call that is outstanding is for them."""
    out: int = 0
    """Characters given out since."""
    skip: int = 0
    """Characters of the coming output that were given out before it was built anew."""
    held: int = 0
    sent: int = 0
    """Characters in `history`."""
    taken: int = 0
    """Characters of it that what was given out stands for."""
    held_since: float = 0.0
    """When what it holds back was, at the latest, given to it."""
    owed: int = 0
    """Without handlers: characters of the coming text that were given out before."""
    finishing: bool = False
    """No text follows."""
    finished: bool = False
    """The call that says so has been made."""
    done: bool = False
    """It has given out everything."""
    since: "Station | None" = None
    """Until it has caught up: the first of the stations that were one with it, and that it gives out text again for."""
    since_taken: int = 0
    """Characters of that one's text that what they gave out together stands for."""
    follows: bool = False
    """What the station before it makes of its prefix is the prefix of this one."""

    def given(self) -> str:
        """Return all text that it was given."""
        return "".join([*self.history, self.prefix or "", *self.inbox])

    def empty(self) -> None:
        """Leave nothing of it: all text that comes passes by it."""
        self.hop = Hop(self.hop.provider, ())
        self.inbox, self.history, self.prefix, self.flying, self.since = [], [], None, None, None
        self.held = self.owed = 0
        self.finishing = self.finished = self.done = self.follows = False

    def wrong(self, results: Sequence[HookResult], value: Value | None) -> str:
        """Return which promise a reply breaks."""
        if any(result.verdict in ("refuse", "answer") for result in results):
            return "a chunk handler can only change or stop"
        if any(result.verdict in ("changed", "stop") for result in results) and not isinstance(
            (value or {}).get("text"), str
        ):
            return "it changed the text and gave none"
        for entry, result in zip(self.hop.entries, results, strict=False):
            most = entry.offer.hold.chars
            if result.held > most:
                return f"it holds back {result.held} characters, and {most} are allowed"
            if result.held and (self.flushing or self.finished) and result.verdict != "stop":
                return "it holds text back that it had to give out"
        return ""


@dataclass(slots=True)
class Way:
    """The stations of one stream."""

    id: str
    stations: list[Station]
    """In order; their numbers are in none."""
    numbers: int
    """How many have been given."""
    text: list[str] = field(default_factory=list)
    """What has passed, all of it."""
    finished: bool = False
    """The engine is done."""
    stopped: bool = False
    """A handler wants no more of it."""
    through: bool = False
    """All text has passed."""
    reported: dict[str, Value] = field(default_factory=dict)
    """By key, what each handler has done so far."""
    ended: bool = False
    """And so has been told."""

    def at(self, number: int) -> int:
        """Return the place of a station."""
        return next(index for index, station in enumerate(self.stations) if station.number == number)

    def end(self, moves: Moves) -> None:
        """Tell, once, that all text has passed, and that those on trial have said what they would have done."""
        if self.finished and self.through and not self.ended and all(one.done for one in self.stations if one.aside):
            self.ended = True
            moves.ended.append(self.id)

    def catching_up(self, index: int) -> Station | None:
        """Return the station that gives out text again for this one and others, if any: the last of several."""
        for end in range(len(self.stations) - 1, index - 1, -1):
            first = self.stations[end].since
            if first is not None and self.stations.index(first) <= index:
                return self.stations[end]
        return None

    def as_one(self, end: Station) -> Station:
        """Make one station again of those that were one and have not caught up; returns it, with all their handlers.

        Of them together it is known for how much of the text they gave out what they did; of each it is not.
        """
        first = end.since
        assert first is not None, "it is catching up"
        begin, behind = self.stations.index(first), self.stations.index(end) + 1
        parts = self.stations[begin:behind]
        hop = Hop(first.hop.provider, tuple(entry for one in parts for entry in one.hop.entries))
        # A new number: answers to calls that are under way are answers to nobody.
        whole = Station(self.numbers, hop, inbox=[first.given()], finishing=first.finishing, follows=first.follows)
        whole.taken = end.since_taken
        self.numbers += 1
        for one in parts:
            one.empty()
        self.stations.insert(begin, whole)
        return whole

    def report(self, entry: Entry, result: HookResult) -> None:
        """Add a call to what is told of a handler."""
        before: dict[str, Any] = self.reported.get(entry.key) or told(entry, "chunk", "unchanged", 0)
        before["us"] += result.us
        before["calls"] = before.get("calls", 0) + 1
        if result.verdict in ("changed", "stop"):
            before["verdict"] = result.verdict
        if result.reason:
            before["why"] = result.reason
        if result.note:
            before["note"] = {**before.get("note", {}), **result.note}
        self.reported[entry.key] = before
