"""The text of answers on its way through chunk handlers: stages, one a hop, first in first out. Pure, mutable.

Each stage has one call outstanding; what arrives meanwhile is one batch. A stage whose host died is built anew: it gets
all its text again, and what it had given out already is dropped from what it gives now; where its handlers are in
different hosts by then, it becomes several. A handler that failed is taken out, and what it had not given out goes on
as it came, unless it says that the answer is to fail. A handler on trial gets the text that passes by it, and what it
gives out goes nowhere: only the end of the answer waits for what is to be told of it.
"""

from collections.abc import Callable, Sequence

from ingle.wire.hook_schema import HookResult

from ingled.core.chain import Hop, Value, fits, told
from ingled.core.stage import Moves, Stage, StageCall, Way


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
            way.end(moves)
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
        wrong = fits(stage.hop.names, results) or stage.wrong(results, value)
        if wrong:
            return self.failed(now, id, number, (), wrong)
        bad = [result for result in results if result.verdict == "error"]
        if bad:
            return self.failed(now, id, number, [result.hook for result in bad], bad[0].reason)
        changed = any(result.verdict in ("changed", "stop") for result in results)
        text = str((value or {}).get("text", "")) if changed else stage.flying
        for entry, result in zip(stage.hop.entries, results, strict=False):
            entry.tally.worked(result.us)
            way.report(entry, result)
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
            way.end(moves)
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
        if (end := way.catching_up(index)) is not None:
            stage = way.as_one(end)
            index, entries = way.stages.index(stage), stage.hop.entries
        rest = tuple(entry for entry in entries if entry not in guilty)
        if rest:
            stage.hop = Hop(stage.hop.provider, rest)
            stage.base, stage.out = stage.taken, 0
            self._again(way, index, moves)
            return moves
        if stage.aside:
            stage.empty()
            stage.done = True
            way.end(moves)
            return moves
        given, last = stage.given(), stage.finishing
        stage.empty()
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
        given = stage.given()
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
                way.end(moves)
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
