"""The text of answers on its way through handlers, wherever they are, and the text that hooks want whole."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ingle.wire.hook_schema import HookCall, HookEnd, HookReply
from ingle.wire.schema import ToClient

from ingled.broker.hook_calls import LOOK_S, RETRIES, HookCalls, Pending
from ingled.broker.host import Host
from ingled.broker.hosts import Hosts
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core import pipeline, views
from ingled.core.chain import Hop
from ingled.core.flow import Flow, Sends
from ingled.core.requests import Record
from ingled.core.station import Moves, StationCall
from ingled.core.stations import Stations


@dataclass(slots=True)
class Watched:
    """A stream whose text hooks want."""

    record: Record
    bound: dict[int, int] = field(default_factory=dict)
    """By station, the host that knows its text so far."""
    died: dict[int, int] = field(default_factory=dict)
    """By station, how many hosts have died since it last answered."""
    shown: bool = False
    """All its handlers are on trial: its reader has the text from the engine."""
    text: str | None = None
    """The whole text, where no worker streamed it."""


class HookText:
    """All streams whose text hooks want."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Flow,
        hosts: Hosts,
        calls: HookCalls,
        *,
        dispatch: Callable[[on.Event], None],
        perform: Callable[[Sequence[do.Effect]], None],
        send: Callable[[int, ToClient], bool],
        send_text: Callable[[Sends], None],
        grant: Callable[[str, int, int], None],
        where: Callable[[str], str | None],
    ) -> None:
        """As for `HookFront`."""
        self._loop, self._flow, self._hosts, self._calls = loop, flow, hosts, calls
        self._dispatch, self._perform, self._send = dispatch, perform, send
        self._send_text, self._grant = send_text, grant
        self._stations = Stations(where)
        self._watched: dict[str, Watched] = {}
        self._looking = False

    def open(self, record: Record, hops: list[Hop]) -> None:
        """Let the text of a request pass these handlers, or hold it whole for hooks that want it then."""
        through = record.sealed or any(not hop.trial for hop in hops)
        shown = bool(hops) and not through
        self._flow.watch(record.id, through, shown)
        self._watched[record.id] = Watched(record, shown=shown)
        if hops or through:
            self._stations.open(record.id, hops, record.handled)
            self._look()

    def feed(self, id: str, text: str) -> None:
        """Take text from an engine."""
        self._move(id, self._stations.feed(self._loop.time(), id, text))

    def give(self, id: str, text: str) -> None:
        """Take the whole text of an answer that no worker streamed."""
        if id in self._stations.ways:
            watched = self._watched.get(id)
            if watched is not None and watched.shown and watched.record.stream:
                self.deliver(id, text)
            self.feed(id, text)
            return
        if (watched := self._watched.get(id)) is not None:
            watched.text = text
        if watched is None or watched.record.stream:
            self.deliver(id, text)

    def finish(self, id: str) -> None:
        """The engine is done; the core is told when all text has passed."""
        if id in self._stations.ways:
            self._move(id, self._stations.finish(self._loop.time(), id))
            return
        watched = self._watched.get(id)
        text = self._flow.text(id) if watched is None or watched.text is None else watched.text
        self._dispatch(on.StationsEnded(self._loop.time(), id, text))

    def so_far(self, id: str) -> str:
        """Return what there is of the answer of a request that hooks follow."""
        if id in self._stations.ways:
            return self._stations.text(id)
        watched = self._watched.get(id)
        return "" if watched is None else self._flow.text(id) if watched.text is None else watched.text

    def forget(self, id: str) -> set[int]:
        """A request is over; returns the hosts that are done with its text."""
        watched = self._watched.pop(id, None)
        stations = self._stations.drop(id)
        if watched is None:
            return set()
        for station in stations:
            if station.hop.provider.startswith("conn:"):
                self._send(int(station.hop.provider[5:]), HookEnd(id))
        pids = set(watched.bound.values())
        for pid in pids:
            if (host := self._hosts.of(pid)) is not None:
                self._hosts.mail.end(host, id)
        return pids

    def at(self, pid: int) -> bool:
        """Return whether a host knows the text of a stream that is not over."""
        return any(pid in watched.bound.values() for watched in self._watched.values())

    # ------------------------------------------------------------ calls

    def replied(self, pending: Pending, reply: HookReply) -> None:
        """Handlers have answered."""
        id = pending.message.id
        assert pending.station is not None and pending.hop is not None, "a call for text has both"
        if (watched := self._watched.get(id)) is not None:
            watched.died.pop(pending.station, None)
            for entry, result in zip(pending.hop.entries, reply.results, strict=False):
                if result.state is not None and result.hook == entry.name:
                    watched.record.states[entry.key] = result.state
        self._move(id, self._stations.replied(self._loop.time(), id, pending.station, reply.results, reply.value))

    def failed(self, pending: Pending, blamed: tuple[str, ...], why: str) -> None:
        """Handlers have not answered: those that are left go on with whoever is there."""
        id, station = pending.message.id, pending.station
        assert station is not None, "a call for text has a station"
        if (watched := self._watched.get(id)) is not None:
            watched.bound.pop(station, None)
        self._move(id, self._stations.failed(self._loop.time(), id, station, blamed, why))

    def again(self, pending: Pending) -> None:
        """There is a host again; it knows nothing of the stream."""
        id, station = pending.message.id, pending.station
        assert station is not None, "a call for text has a station"
        self._move(id, self._stations.again(id, station))

    def provider_gone(self, provider: str) -> None:
        """A connection that provided handlers has ended."""
        for id, station in self._stations.of(provider):
            self._move(id, self._stations.failed(self._loop.time(), id, station, (), "its provider has gone"))

    def host_gone(self, host: Host) -> None:
        """A host is dead: what it knew of streams is given to the next."""
        for id, watched in list(self._watched.items()):
            for station in [station for station, pid in watched.bound.items() if pid == host.pid]:
                del watched.bound[station]
                self._calls.drop(id, station)
                died = watched.died[station] = watched.died.get(station, 0) + 1
                if died > RETRIES:
                    why = f"its host died {died} times under it"
                    self._move(id, self._stations.failed(self._loop.time(), id, station, (), why))
                else:
                    self._move(id, self._stations.again(id, station))

    def _call(self, call: StationCall) -> None:
        watched = self._watched.get(call.id)
        if watched is None:
            return
        record, hop, number = watched.record, call.hop, self._calls.number()
        value = {"call": views.about(record), "text": call.text} if call.seq == 0 else {"text": call.text}
        message = HookCall(
            number, "chunk", list(hop.names), value, call.id, call.seq, call.last, call.flush,
            pipeline.states(record, hop) if call.seq == 0 else {}, sum(hop.deadlines),
        )  # fmt: skip
        self._go(Pending(self, number, hop.provider, message, hop.deadlines, call.station, hop))

    def _go(self, pending: Pending) -> None:
        """Make a call; a stream stays with the host that knows it."""
        watched, station = self._watched[pending.message.id], pending.station
        assert station is not None, "a call for text has a station"
        pending.bound = watched.bound.get(station)
        self._calls.go(pending)
        if pending.pid is not None:
            watched.bound[station] = pending.pid

    # ------------------------------------------------------------ moves

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_S, self._flush)

    def _flush(self) -> None:
        """Have text given out that is held for too long."""
        self._looking = False
        self._move("", self._stations.flush(self._loop.time()))
        if self._stations.ways:
            self._look()

    def deliver(self, id: str, text: str) -> None:
        """Give text to the reader."""
        sends: Sends = []
        self._flow.put(id, text, sends)
        self._send_text(sends)

    def _move(self, id: str, moves: Moves) -> None:
        """Carry out what happened to the stations."""
        now = self._loop.time()
        for one, text in moves.texts:
            if (watched := self._watched.get(one)) is not None and watched.record.open and not watched.shown:
                self.deliver(one, text)
        for call in moves.calls:
            self._call(call)
        for entry in moves.tripped:
            self._perform(pipeline.tripped(entry))
        for one, hook, why in moves.stopped:
            self._dispatch(on.StationStopped(now, one, hook, why))
        for one, hook, why in moves.failed:
            self._dispatch(on.StationFailed(now, one, hook, why))
        for one in moves.ended:
            if one in self._stations.ways:
                self._dispatch(on.StationsEnded(now, one, self._stations.text(one)))
        if id and self._stations.quiet(id) and (more := self._flow.settle(id)):
            self._grant(id, more, 0)
