"""The text of answers on its way through chunk handlers: stages, one a hop, first in first out. Pure, mutable.

Each stage has one call outstanding; what arrives meanwhile is one batch. A stage whose host died is built anew: it gets
all its text again, and what it had given out already is dropped from what it gives now; where its handlers are in
different hosts by then, it becomes several. A handler that failed is taken out, and what it had not given out goes on
as it came, unless it says that the answer is to fail. A handler on trial gets the text that passes by it, and what it
gives out goes nowhere: only the end of the answer waits for what is to be told of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingle.wire.hook_schema import HookResult

from ingled.core.chain import Hop, Value, fits, told
from ingled.core.registry import Entry


@dataclass(frozen=True, slots=True)
class StageCall:
    """Text for the handlers of a stage."""

    id: str
    stage: int
    """Its number within the stream."""
    hop: Hop
    text: str
    seq: int
    last: bool
    flush: bool


@dataclass(slots=True)
class Moves:
    """What is to be done after something happened to the stages."""

    calls: list[StageCall] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """By request, text that has passed all stages."""
    ended: list[str] = field(default_factory=list)
    """All text of these requests has passed."""
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    """Requests that are to fail, by which hook, and why."""
    stopped: list[tuple[str, str, str]] = field(default_factory=list)
    """Requests whose engine is to stop, by which hook, and why."""
    tripped: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Stage:
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
    since: "Stage | None" = None
    """Until it has caught up: the first of the stages that were one with it, and that it gives out text again for."""
    since_taken: int = 0
    """Characters of that one's text that what they gave out together stands for."""
    follows: bool = False
    """What the stage before it makes of its prefix is the prefix of this one."""


@dataclass(slots=True)
class Way:
    """The stages of one stream."""

    id: str
    stages: list[Stage]
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
        """Return the place of a stage."""
        return next(index for index, stage in enumerate(self.stages) if stage.number == number)


class Stages:
    """All streams that have chunk handlers."""

    def __init__(self, where: Callable[[str], str | None] = lambda key: None) -> None:
        """`where` tells who provides a hook now, by key; None: it is gone, and its last provider may say so."""
        self.ways: dict[str, Way] = {}
        self._where = where

    def open(self, id: str, hops: Sequence[Hop], reported: dict[str, Value]) -> None:
        """Begin a stream; what each handler does is noted in `reported`, by key."""
        stages = [Stage(number, hop, hop.trial) for number, hop in enumerate(hops)]
        self.ways[id] = Way(id, stages, len(hops), reported=reported)

    def drop(self, id: str) -> list[Stage]:
        """Forget a stream; returns its stages."""
        way = self.ways.pop(id, None)
        return [] if way is None else way.stages

    def feed(self, now: float, id: str, text: str) -> Moves:
        """Take text from the engine."""
        moves, way = Moves(), self.ways.get(id)
        if way is not None and not way.stopped:
            self._give(now, way, 0, text, False, moves)
        return moves

    def finish(self, now: float, id: str) -> Moves:
        """The engine is done: whatever is held comes out, and then the request is in `ended`."""
        moves, way = Moves(), self.ways.get(id)
        if way is None:
            return moves
        way.finished = True
        if not way.stopped:
            self._give(now, way, 0, "", True, moves)
        else:
            _end(way, moves)
        return moves

    def text(self, id: str) -> str:
        """Return what has passed."""
        return "".join(self.ways[id].text)

    def of(self, provider: str) -> list[tuple[str, int]]:
        """Return the streams and stages that a provider handles and has not done with."""
        return [
            (way.id, stage.number)
            for way in self.ways.values()
            for stage in way.stages
            if stage.hop.provider == provider and stage.hop.entries and not stage.done
        ]

    def quiet(self, id: str) -> bool:
        """Return whether no text is on its way through handlers."""
        way = self.ways.get(id)
        return way is None or all(stage.aside or (stage.flying is None and not stage.inbox) for stage in way.stages)

    # ------------------------------------------------------------ what comes back

    def replied(self, now: float, id: str, number: int, results: Sequence[HookResult], value: Value | None) -> Moves:
        """A stage has answered its call."""
        moves, way = Moves(), self.ways.get(id)
        if way is None:
            return moves
        stage = way.stages[index := way.at(number)]
        if stage.flying is None:
            return moves
        wrong = fits(stage.hop.names, results) or _wrong(stage, results, value)
        if wrong:
            return self.failed(now, id, number, (), wrong)
        bad = [result for result in results if result.verdict == "error"]
        if bad:
            return self.failed(now, id, number, [result.hook for result in bad], bad[0].reason)
        changed = any(result.verdict in ("changed", "stop") for result in results)
        text = str((value or {}).get("text", "")) if changed else stage.flying
        for entry, result in zip(stage.hop.entries, results, strict=False):
            entry.tally.worked(result.us)
            _report(way, entry, result)
        held, taken = stage.held, stage.taken
        stage.held = sum(result.held for result in results)
        stage.flying, stage.flushing = None, False
        if stage.void:
            self._prime(way, index + 1, text, moves)
            text, stage.void = "", False
        new = text[stage.skip :]
        stage.skip -= min(stage.skip, len(text))
        stage.out += len(new)
        if not stage.skip:  # each counts what it holds in its own input
            before = stage.taken if stage.since is None else 0
            stage.taken, stage.since = max(before, stage.sent - stage.held), None
        if not held or stage.taken > taken:
            stage.held_since = now
        if stage.aside:
            stage.done = results[-1].verdict == "stop" or (stage.finished and not stage.inbox)
            if stage.done:
                stage.held, stage.inbox, stage.finished = 0, [], True
            self._call(way, index, moves)
            _end(way, moves)
            return moves
        if results and results[-1].verdict == "stop":
            self._stop(now, way, index, new, results[-1], moves)
            return moves
        last = stage.done = stage.finished and not stage.inbox
        self._give(now, way, index + 1, new, last, moves)
        if not last:
            self._call(way, index, moves)
        return moves

    def failed(self, now: float, id: str, number: int, blamed: Sequence[str], why: str) -> Moves:
        """A stage did not answer, or not rightly; `blamed` are its hooks that were at work, or none is known."""
        moves, way = Moves(), self.ways.get(id)
        if way is None:
            return moves
        stage = way.stages[index := way.at(number)]
        entries = stage.hop.entries
        guilty = [entry for entry in entries if not blamed or entry.name in blamed] or list(entries)
        for entry in guilty:
            if entry.tally.failed_at(now, why):
                moves.tripped.append(entry)
            way.reported[entry.key] = told(entry, "chunk", "skipped", 0, why)
        refusing = next((entry for entry in guilty if entry.refuses), None)
        if refusing is not None:
            moves.failed.append((id, refusing.name, why))
            return moves
        if (end := _catching_up(way, index)) is not None:
            stage = _as_one(way, end)
            index, entries = way.stages.index(stage), stage.hop.entries
        rest = tuple(entry for entry in entries if entry not in guilty)
        if rest:
            stage.hop = Hop(stage.hop.provider, rest)
            stage.base, stage.out = stage.taken, 0
            self._again(way, index, moves)
            return moves
        if stage.aside:
            _empty(stage)
            stage.done = True
            _end(way, moves)
            return moves
        given, last = _given(stage), stage.finishing
        _empty(stage)
        stage.owed = max(0, stage.taken - len(given))
        stage.finishing = stage.finished = stage.done = last
        self._give(now, way, index + 1, given[stage.taken :], last, moves)
        return moves

    def again(self, id: str, number: int) -> Moves:
        """The host of a stage is gone: another one gets all the text again."""
        moves, way = Moves(), self.ways.get(id)
        if way is not None:
            stage = way.stages[index := way.at(number)]
            if stage.hop.entries and not stage.done:
                self._again(way, index, moves)
        return moves

    def _again(self, way: Way, index: int, moves: Moves) -> None:
        stage = way.stages[index]
        self._split(way, stage)
        given = _given(stage)
        stage.history, stage.sent = [], 0
        stage.prefix, stage.void = given[: stage.base] or None, False
        stage.inbox = [given[stage.base :]] if len(given) > stage.base else []
        stage.seq, stage.skip, stage.held, stage.flying, stage.finished = 0, stage.out, 0, None, False
        self._call(way, index, moves)

    def _split(self, way: Way, stage: Stage) -> None:
        """Let the handlers of a stage, which begins anew, go to where they are by now."""
        hops: list[Hop] = []
        for entry in stage.hop.entries:
            provider = self._where(entry.key) or stage.hop.provider
            before = hops.pop().entries if hops and hops[-1].provider == provider else ()
            hops.append(Hop(provider, (*before, entry)))
        stage.hop = hops[0]
        if len(hops) == 1:
            return
        more = [Stage(way.numbers + index, hop, follows=True) for index, hop in enumerate(hops[1:])]
        way.numbers += len(more)
        last = more[-1]  # its output is what the stage gave out so far
        last.out, last.skip, last.taken = stage.out, stage.out, stage.taken - stage.base
        if stage.since is not None:
            last.since, last.since_taken, stage.since = stage.since, stage.since_taken, None
        elif stage.out:
            last.since, last.since_taken = stage, stage.taken
        stage.out, stage.taken, stage.skip = 0, stage.base, 0
        place = way.stages.index(stage)
        way.stages[place + 1 : place + 1] = more

    def _prime(self, way: Way, index: int, text: str, moves: Moves) -> None:
        """Let a stage that was one with the one before it see what that makes of text that has gone out already."""
        stage = way.stages[index] if index < len(way.stages) else None
        if stage is None or not stage.follows or stage.seq:
            return
        stage.follows = False
        if text:
            stage.prefix = text
            stage.base, stage.taken = stage.base + len(text), stage.taken + len(text)
            self._call(way, index, moves)

    def flush(self, now: float) -> Moves:
        """Have text given out that has been held for too long."""
        moves = Moves()
        for way in self.ways.values():
            for index, stage in enumerate(way.stages):
                if not stage.held or stage.flying is not None or not stage.hop.entries:
                    continue
                longest = max(entry.offer.hold.ms for entry in stage.hop.entries) / 1000
                if now - stage.held_since >= longest:
                    stage.flushing = True
                    self._call(way, index, moves)
        return moves

    # ------------------------------------------------------------ from stage to stage

    def _give(self, now: float, way: Way, index: int, text: str, last: bool, moves: Moves) -> None:
        """Give text to a stage; behind the last one it has passed."""
        if index == len(way.stages):
            if text:
                way.text.append(text)
                moves.texts.append((way.id, text))
            if last:
                way.through = True
                _end(way, moves)
            return
        stage = way.stages[index]
        if not stage.hop.entries:
            stage.finishing = stage.finished = stage.done = last or stage.aside
            new = text[stage.owed :]
            stage.owed -= min(stage.owed, len(text))
            self._give(now, way, index + 1, new, last, moves)
            return
        if text:
            stage.inbox.append(text)
        stage.finishing = stage.finishing or last
        self._call(way, index, moves)
        if stage.aside:
            self._give(now, way, index + 1, text, last, moves)

    def _call(self, way: Way, index: int, moves: Moves) -> None:
        """Call a stage, if it has something to do and no call is outstanding."""
        stage = way.stages[index]
        if stage.flying is not None or stage.finished:
            return
        if stage.prefix is not None:
            text, stage.prefix, stage.void, stage.flushing = stage.prefix, None, True, True
        elif stage.inbox or stage.finishing or stage.flushing:
            text = "".join(stage.inbox)
            stage.inbox, stage.finished = [], stage.finishing
        else:
            return
        if text:
            stage.history.append(text)
            stage.sent += len(text)
        stage.flying = text
        moves.calls.append(StageCall(way.id, stage.number, stage.hop, text, stage.seq, stage.finished, stage.flushing))
        stage.seq += 1

    def _stop(self, now: float, way: Way, index: int, text: str, result: HookResult, moves: Moves) -> None:
        """A handler wants no more of this answer: what it gave out goes on through the stages behind it."""
        way.stopped = True
        for place, stage in enumerate(way.stages[: index + 1]):
            if stage.aside:
                stage.finishing = True
                self._call(way, place, moves)
                continue
            stage.inbox, stage.held, stage.flying = [], 0, None
            stage.finishing = stage.finished = stage.done = True
        moves.stopped.append((way.id, result.hook, result.reason))
        self._give(now, way, index + 1, text, True, moves)


def _end(way: Way, moves: Moves) -> None:
    """Tell, once, that all text has passed, and that those on trial have said what they would have done."""
    if way.finished and way.through and not way.ended and all(one.done for one in way.stages if one.aside):
        way.ended = True
        moves.ended.append(way.id)


def _catching_up(way: Way, index: int) -> Stage | None:
    """Return the stage that gives out text again for this one and others, if there is one: the last, of several."""
    for end in range(len(way.stages) - 1, index - 1, -1):
        first = way.stages[end].since
        if first is not None and way.stages.index(first) <= index:
            return way.stages[end]
    return None


def _as_one(way: Way, end: Stage) -> Stage:
    """Make one stage again of those that were one and have not caught up; returns it, with all their handlers.

    Of them together it is known for how much of the text they gave out what they did; of each it is not.
    """
    first = end.since
    assert first is not None, "it is catching up"
    begin, behind = way.stages.index(first), way.stages.index(end) + 1
    parts = way.stages[begin:behind]
    hop = Hop(first.hop.provider, tuple(entry for one in parts for entry in one.hop.entries))
    # A new number: answers to calls that are under way are answers to nobody.
    whole = Stage(way.numbers, hop, inbox=[_given(first)], finishing=first.finishing, follows=first.follows)
    whole.taken = end.since_taken
    way.numbers += 1
    for one in parts:
        _empty(one)
    way.stages.insert(begin, whole)
    return whole


def _empty(stage: Stage) -> None:
    """Leave nothing of a stage: all text that comes passes by it."""
    stage.hop = Hop(stage.hop.provider, ())
    stage.inbox, stage.history, stage.prefix, stage.flying, stage.since = [], [], None, None, None
    stage.held = stage.owed = 0
    stage.finishing = stage.finished = stage.done = stage.follows = False


def _given(stage: Stage) -> str:
    """Return all text that a stage was given."""
    return "".join([*stage.history, stage.prefix or "", *stage.inbox])


def _wrong(stage: Stage, results: Sequence[HookResult], value: Value | None) -> str:
    """Return which promise a reply breaks."""
    if any(result.verdict in ("refuse", "answer") for result in results):
        return "a chunk handler can only change or stop"
    if any(result.verdict in ("changed", "stop") for result in results) and not isinstance(
        (value or {}).get("text"), str
    ):
        return "it changed the text and gave none"
    for entry, result in zip(stage.hop.entries, results, strict=False):
        most = entry.offer.hold.chars
        if result.held > most:
            return f"it holds back {result.held} characters, and {most} are allowed"
        if result.held and (stage.flushing or stage.finished) and result.verdict != "stop":
            return "it holds text back that it had to give out"
    return ""


def _report(way: Way, entry: Entry, result: HookResult) -> None:
    """Add a call to what is told of a handler."""
    before: dict[str, Any] = way.reported.get(entry.key) or told(entry, "chunk", "unchanged", 0)
    before["us"] += result.us
    before["calls"] = before.get("calls", 0) + 1
    if result.verdict in ("changed", "stop"):
        before["verdict"] = result.verdict
    if result.reason:
        before["why"] = result.reason
    if result.note:
        before["note"] = {**before.get("note", {}), **result.note}
    way.reported[entry.key] = before
