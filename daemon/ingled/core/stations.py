"""The text of answers on its way through chunk handlers: stations, one a hop, first in first out. Pure, mutable.

Each station has one call outstanding; what arrives meanwhile is one batch. A station whose host died is built anew: it
gets all its text again, and what it had given out already is dropped from what it gives now; where its handlers are in
different hosts by then, it becomes several. A handler that failed is taken out, and what it had not given out goes on
as it came, unless it says that the answer is to fail. A handler on trial gets the text that passes by it, and what it
gives out goes nowhere: only the end of the answer waits for what is to be told of it.
"""

from collections.abc import Callable, Sequence

from ingle.wire.hook_schema import HookResult

from ingled.core.chain import Hop, Value, fits, told
from ingled.core.station import Moves, Station, StationCall, Way


class Stations:
    """All streams that have chunk handlers."""

    def __init__(self, where: Callable[[str], str | None] = lambda key: None) -> None:
        """`where` tells who provides a hook now, by key; None: it is gone, and its last provider may say so."""
        self.ways: dict[str, Way] = {}
        self._where = where

    def open(self, id: str, hops: Sequence[Hop], reported: dict[str, Value]) -> None:
        """Begin a stream; what each handler does is noted in `reported`, by key."""
        stations = [Station(number, hop, hop.trial) for number, hop in enumerate(hops)]
        self.ways[id] = Way(id, stations, len(hops), reported=reported)

    def drop(self, id: str) -> list[Station]:
        """Forget a stream; returns its stations."""
        way = self.ways.pop(id, None)
        return [] if way is None else way.stations

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
        """Return the streams and stations that a provider handles and has not done with."""
        return [
            (way.id, station.number)
            for way in self.ways.values()
            for station in way.stations
            if station.hop.provider == provider and station.hop.entries and not station.done
        ]

    def quiet(self, id: str) -> bool:
        """Return whether no text is on its way through handlers."""
        way = self.ways.get(id)
        return way is None or all(
            station.aside or (station.flying is None and not station.inbox) for station in way.stations
        )

    # ------------------------------------------------------------ what comes back

    def replied(self, now: float, id: str, number: int, results: Sequence[HookResult], value: Value | None) -> Moves:
        """A station has answered its call."""
        moves, way = Moves(), self.ways.get(id)
        if way is None:
            return moves
        station = way.stations[index := way.at(number)]
        if station.flying is None:
            return moves
        wrong = fits(station.hop.names, results) or station.wrong(results, value)
        if wrong:
            return self.failed(now, id, number, (), wrong)
        bad = [result for result in results if result.verdict == "error"]
        if bad:
            return self.failed(now, id, number, [result.hook for result in bad], bad[0].reason)
        changed = any(result.verdict in ("changed", "stop") for result in results)
        text = str((value or {}).get("text", "")) if changed else station.flying
        for entry, result in zip(station.hop.entries, results, strict=False):
            entry.tally.worked(result.us)
            way.report(entry, result)
        held, taken = station.held, station.taken
        station.held = sum(result.held for result in results)
        station.flying, station.flushing = None, False
        if station.void:
            self._prime(way, index + 1, text, moves)
            text, station.void = "", False
        new = text[station.skip :]
        station.skip -= min(station.skip, len(text))
        station.out += len(new)
        if not station.skip:  # each counts what it holds in its own input
            before = station.taken if station.since is None else 0
            station.taken, station.since = max(before, station.sent - station.held), None
        if not held or station.taken > taken:
            station.held_since = now
        if station.aside:
            station.done = results[-1].verdict == "stop" or (station.finished and not station.inbox)
            if station.done:
                station.held, station.inbox, station.finished = 0, [], True
            self._call(way, index, moves)
            way.end(moves)
            return moves
        if results and results[-1].verdict == "stop":
            self._stop(now, way, index, new, results[-1], moves)
            return moves
        last = station.done = station.finished and not station.inbox
        self._give(now, way, index + 1, new, last, moves)
        if not last:
            self._call(way, index, moves)
        return moves

    def failed(self, now: float, id: str, number: int, blamed: Sequence[str], why: str) -> Moves:
        """A station did not answer, or not rightly; `blamed` are its hooks that were at work, or none is known."""
        moves, way = Moves(), self.ways.get(id)
        if way is None:
            return moves
        station = way.stations[index := way.at(number)]
        entries = station.hop.entries
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
            station = way.as_one(end)
            index, entries = way.stations.index(station), station.hop.entries
        rest = tuple(entry for entry in entries if entry not in guilty)
        if rest:
            station.hop = Hop(station.hop.provider, rest)
            station.base, station.out = station.taken, 0
            self._again(way, index, moves)
            return moves
        if station.aside:
            station.empty()
            station.done = True
            way.end(moves)
            return moves
        given, last = station.given(), station.finishing
        station.empty()
        station.owed = max(0, station.taken - len(given))
        station.finishing = station.finished = station.done = last
        self._give(now, way, index + 1, given[station.taken :], last, moves)
        return moves

    def again(self, id: str, number: int) -> Moves:
        """The host of a station is gone: another one gets all the text again."""
        moves, way = Moves(), self.ways.get(id)
        if way is not None:
            station = way.stations[index := way.at(number)]
            if station.hop.entries and not station.done:
                self._again(way, index, moves)
        return moves

    def _again(self, way: Way, index: int, moves: Moves) -> None:
        station = way.stations[index]
        self._split(way, station)
        given = station.given()
        station.history, station.sent = [], 0
        station.prefix, station.void = given[: station.base] or None, False
        station.inbox = [given[station.base :]] if len(given) > station.base else []
        station.seq, station.skip, station.held, station.flying, station.finished = 0, station.out, 0, None, False
        self._call(way, index, moves)

    def _split(self, way: Way, station: Station) -> None:
        """Let the handlers of a station, which begins anew, go to where they are by now."""
        hops: list[Hop] = []
        for entry in station.hop.entries:
            provider = self._where(entry.key) or station.hop.provider
            before = hops.pop().entries if hops and hops[-1].provider == provider else ()
            hops.append(Hop(provider, (*before, entry)))
        station.hop = hops[0]
        if len(hops) == 1:
            return
        more = [Station(way.numbers + index, hop, follows=True) for index, hop in enumerate(hops[1:])]
        way.numbers += len(more)
        last = more[-1]  # its output is what the station gave out so far
        last.out, last.skip, last.taken = station.out, station.out, station.taken - station.base
        if station.since is not None:
            last.since, last.since_taken, station.since = station.since, station.since_taken, None
        elif station.out:
            last.since, last.since_taken = station, station.taken
        station.out, station.taken, station.skip = 0, station.base, 0
        place = way.stations.index(station)
        way.stations[place + 1 : place + 1] = more

    def _prime(self, way: Way, index: int, text: str, moves: Moves) -> None:
        """Let a station that was one with the one before it see what that makes of text that has gone out already."""
        station = way.stations[index] if index < len(way.stations) else None
        if station is None or not station.follows or station.seq:
            return
        station.follows = False
        if text:
            station.prefix = text
            station.base, station.taken = station.base + len(text), station.taken + len(text)
            self._call(way, index, moves)

    def flush(self, now: float) -> Moves:
        """Have text given out that has been held for too long."""
        moves = Moves()
        for way in self.ways.values():
            for index, station in enumerate(way.stations):
                if not station.held or station.flying is not None or not station.hop.entries:
                    continue
                longest = max(entry.offer.hold.ms for entry in station.hop.entries) / 1000
                if now - station.held_since >= longest:
                    station.flushing = True
                    self._call(way, index, moves)
        return moves

    # ------------------------------------------------------------ from station to station

    def _give(self, now: float, way: Way, index: int, text: str, last: bool, moves: Moves) -> None:
        """Give text to a station; behind the last one it has passed."""
        if index == len(way.stations):
            if text:
                way.text.append(text)
                moves.texts.append((way.id, text))
            if last:
                way.through = True
                way.end(moves)
            return
        station = way.stations[index]
        if not station.hop.entries:
            station.finishing = station.finished = station.done = last or station.aside
            new = text[station.owed :]
            station.owed -= min(station.owed, len(text))
            self._give(now, way, index + 1, new, last, moves)
            return
        if text:
            station.inbox.append(text)
        station.finishing = station.finishing or last
        self._call(way, index, moves)
        if station.aside:
            self._give(now, way, index + 1, text, last, moves)

    def _call(self, way: Way, index: int, moves: Moves) -> None:
        """Call a station, if it has something to do and no call is outstanding."""
        station = way.stations[index]
        if station.flying is not None or station.finished:
            return
        if station.prefix is not None:
            text, station.prefix, station.void, station.flushing = station.prefix, None, True, True
        elif station.inbox or station.finishing or station.flushing:
            text = "".join(station.inbox)
            station.inbox, station.finished = [], station.finishing
        else:
            return
        if text:
            station.history.append(text)
            station.sent += len(text)
        station.flying = text
        moves.calls.append(
            StationCall(way.id, station.number, station.hop, text, station.seq, station.finished, station.flushing)
        )
        station.seq += 1

    def _stop(self, now: float, way: Way, index: int, text: str, result: HookResult, moves: Moves) -> None:
        """A handler wants no more of this answer: what it gave out goes on through the stations behind it."""
        way.stopped = True
        for place, station in enumerate(way.stations[: index + 1]):
            if station.aside:
                station.finishing = True
                self._call(way, place, moves)
                continue
            station.inbox, station.held, station.flying = [], 0, None
            station.finishing = station.finished = station.done = True
        moves.stopped.append((way.id, result.hook, result.reason))
        self._give(now, way, index + 1, text, True, moves)
