"""Calls of hooks on their way: to a connection or a host of plugins, with a deadline each; and text through stages.

A provider that does not answer in time has failed at that call, by the policy of its hooks. A host that died or hangs
is replaced; the calls that were not at fault are made again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingle.wire.hook_schema import HookCall, HookEnd, HookReply, Point
from ingle.wire.schema import ToClient

from ingled.broker.host import Host
from ingled.broker.hosts import Hosts
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core import pipeline
from ingled.core.chain import Hop
from ingled.core.flow import Flow, Sends
from ingled.core.registry import Entry
from ingled.core.requests import Record
from ingled.core.stages import Moves, StageCall, Stages

log = logging.getLogger(__name__)

LOOK_S = 0.01
"""Seconds between two looks at the deadlines."""
HOST_WAIT_S = 10.0
"""Seconds that a call waits for a host that is being started."""
RETRIES = 3
"""How often a call is made again because its host died of another one."""
PATIENCE = 4
"""How often a call that did nothing wrong waits for the verdict on its host."""


@dataclass(slots=True)
class Pending:
    """A call without an answer yet."""

    number: int
    provider: str
    message: HookCall
    deadline: float
    stage: int | None = None
    """Of a stream; None for a call of the chain."""
    hop: Hop | None = None
    deadlines: tuple[int, ...] = ()
    """Milliseconds for each hook of it."""
    pid: int | None = None
    """The host that has it."""
    at: int = 0
    at_since: float = 0.0
    """The hook that the host was seen at last, and since when."""
    waits: int = 0
    answer: Callable[[HookReply | str], None] | None = None
    """Whom to tell, where it belongs to no request: the reply, or why there is none."""


@dataclass(slots=True)
class Watched:
    """A stream whose text hooks want."""

    record: Record
    bound: dict[int, int] = field(default_factory=dict)
    """By stage, the host that knows its text so far."""
    text: str | None = None
    """The whole text, where no worker streamed it."""


class HookFront:
    """Everything between the core and the providers of hooks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Flow,
        hosts: Hosts,
        *,
        dispatch: Callable[[on.Event], None],
        perform: Callable[[Sequence[do.Effect]], None],
        send: Callable[[int, ToClient], bool],
        send_text: Callable[[Sends], None],
        grant: Callable[[str, int, int], None],
        where: Callable[[str], str | None],
    ) -> None:
        """`send` returns whether the connection exists; `where` tells who provides a hook now.

        `grant` gives a stream's worker more credit, and an acknowledged offset.
        """
        self._where = where
        self._loop, self._flow, self._hosts = loop, flow, hosts
        self._dispatch, self._perform, self._send = dispatch, perform, send
        self._send_text, self._grant = send_text, grant
        self._stages = Stages()
        self._watched: dict[str, Watched] = {}
        self._pending: dict[int, Pending] = {}
        self._waiting: dict[str, list[int]] = {}
        """By group of plugins, calls for which there is no host now."""
        self._tries: dict[str, int] = {}
        """By request, how often its calls were made again."""
        self._numbers = 0
        self._looking = False
        hosts.on_ready, hosts.on_gone, hosts.judge.on_hang = self._host_ready, self._host_gone, self._blame
        hosts.on_drain = self._leave

    # ------------------------------------------------------------ calls

    def call(self, effect: do.CallHooks) -> None:
        """Call hooks for the core."""
        number = self._number() if effect.reply else 0
        message = HookCall(
            number, effect.point, list(effect.hooks), effect.value, effect.id,
            states=effect.states, deadline_ms=sum(effect.deadlines),
        )  # fmt: skip
        pending = Pending(number, effect.provider, message, 0.0, deadlines=effect.deadlines)
        if not effect.reply:
            self._tell(pending)
            return
        self._go(pending)

    def test(
        self, entry: Entry, point: Point, value: dict[str, Any], answer: Callable[[HookReply | str], None]
    ) -> None:
        """Call one hook with an example; `answer` gets its reply, or why there is none."""
        number = self._number()
        last = point == "chunk"
        message = HookCall(
            number, point, [entry.name], value, f"test-{number}", last=last, deadline_ms=entry.offer.deadline_ms
        )
        self._go(Pending(number, entry.provider, message, 0.0, answer=answer))

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _tell(self, pending: Pending) -> None:
        """Send what wants no answer; nobody waits for it, and it is lost where nobody can take it."""
        kind, _, name = pending.provider.partition(":")
        if kind == "conn":
            self._send(int(name), pending.message)
        elif (host := self._hosts.current(name)) is not None:
            self._hosts.send(host, pending.message)

    def _go(self, pending: Pending) -> None:
        """Send a call, or let it wait for its host."""
        now = self._loop.time()
        self._pending[pending.number] = pending
        kind, _, name = pending.provider.partition(":")
        if kind == "conn":
            pending.deadline = now + pending.message.deadline_ms / 1000
            if not self._send(int(name), pending.message):
                self._fail(pending, (), "its provider has gone")
                return
        else:
            host = self._host(pending, name)
            if host is None:
                self._waiting.setdefault(name, []).append(pending.number)
                pending.pid, pending.deadline = None, now + HOST_WAIT_S
                self._hosts.want(name)
            else:
                pending.pid, pending.deadline = host.pid, now + pending.message.deadline_ms / 1000
                pending.at, pending.at_since = 0, now
                self._hosts.send(host, pending.message)
        self._look()

    def _host(self, pending: Pending, group: str) -> Host | None:
        """Return who takes a call: a stream stays with the host that knows it."""
        if pending.stage is None:
            return self._hosts.current(group)
        watched = self._watched[pending.message.id]
        pid = watched.bound.get(pending.stage)
        host = self._hosts.of(pid) if pid is not None else self._hosts.current(group)
        if host is not None:
            watched.bound[pending.stage] = host.pid
        return host

    def reply(self, provider: str, reply: HookReply) -> None:
        """Take the answer to a call from a provider; one that comes too late, or from another, changes nothing."""
        pending = self._pending.get(reply.call)
        if pending is None or provider != (pending.provider if pending.pid is None else f"pid:{pending.pid}"):
            return
        del self._pending[reply.call]
        message = pending.message
        if pending.answer is not None:
            pending.answer(reply)
        elif pending.stage is None:
            results = tuple(reply.results)
            self._dispatch(on.HookReplied(self._loop.time(), message.id, message.point, results, reply.value))
        else:
            self._keep_states(pending, reply)
            now = self._loop.time()
            moves = self._stages.replied(now, message.id, pending.stage, reply.results, reply.value)
            self._move(message.id, moves)
        if pending.pid is not None:
            self._leave(pending.pid)

    def _keep_states(self, pending: Pending, reply: HookReply) -> None:
        watched = self._watched.get(pending.message.id)
        if watched is not None and pending.hop is not None:
            for entry, result in zip(pending.hop.entries, reply.results, strict=False):
                if result.state is not None and result.hook == entry.name:
                    watched.record.states[entry.key] = result.state

    def _fail(self, pending: Pending, blamed: tuple[str, ...], why: str) -> None:
        self._pending.pop(pending.number, None)
        message, now = pending.message, self._loop.time()
        if pending.answer is not None:
            pending.answer(why)
            return
        if pending.stage is None:
            self._dispatch(on.HookFailed(now, message.id, message.point, blamed, why))
            return
        self._move(message.id, self._stages.failed(now, message.id, pending.stage, blamed, why))

    # ------------------------------------------------------------ deadlines

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_S, self._deadlines)

    def _deadlines(self) -> None:
        self._looking = False
        now = self._loop.time()
        self._look_at_hooks(now)
        for pending in [one for one in self._pending.values() if one.deadline <= now]:
            if self._pending.get(pending.number) is pending:
                self._late(now, pending)
        self._move("", self._stages.flush(now))
        if self._pending or self._watched:
            self._look()

    def _look_at_hooks(self, now: float) -> None:
        """One hook of several has its own deadline: the host's table tells which of them it is at."""
        tables: dict[int, dict[int, int]] = {}
        for pending in self._pending.values():
            if len(pending.deadlines) < 2 or pending.pid is None or now - pending.at_since < 0.02:
                continue
            if pending.pid not in tables:
                host = self._hosts.of(pending.pid)
                tables[pending.pid] = {} if host is None else host.busy()
            at = tables[pending.pid].get(pending.number)
            if at is None or at >= len(pending.deadlines):
                continue
            if at != pending.at:
                pending.at, pending.at_since = at, now
            elif now - pending.at_since > pending.deadlines[at] / 1000:
                pending.deadline = min(pending.deadline, now)

    def _late(self, now: float, pending: Pending) -> None:
        most = pending.deadlines[pending.at] if pending.pid is not None and pending.deadlines else 0
        why = f"no answer within {most or pending.message.deadline_ms} ms"
        host = self._hosts.of(pending.pid)
        if host is None:
            if pending.provider.startswith("group:"):
                why = f"the hook host did not come within {HOST_WAIT_S:.0f} s"
            self._fail(pending, (), why)
            return
        at = host.busy().get(pending.number)
        if self._hosts.judge.hangs(host):
            self._hosts.judge.judge(host)  # `_blame` tells whose fault it is
            pending.deadline = now + 0.25
        elif host.stuck and pending.waits < PATIENCE:
            pending.waits += 1
            pending.deadline = now + 0.25
        else:
            blamed = () if at is None else (pending.message.hooks[at],)
            host.stuck.add(pending.number)
            self._hosts.replace(host, f"a call of '{pending.message.hooks[at or 0]}' does not end")
            self._fail(pending, blamed, why)

    def _blame(self, host: Host, numbers: Sequence[int], why: str) -> list[str]:
        """A host hangs or has died at these calls: they have failed. Returns the hooks that were at work."""
        busy = host.busy()
        found = []
        for number in numbers:
            pending = self._pending.get(number)
            if pending is not None and number in busy:
                hook = pending.message.hooks[min(busy[number], len(pending.message.hooks) - 1)]
                found.append(hook)
                if pending.stage is not None:
                    self._watched[pending.message.id].bound.pop(pending.stage, None)
                self._fail(pending, (hook,), why)
        return found

    # ------------------------------------------------------------ hosts

    def _host_ready(self, group: str) -> None:
        """There is a host again: what waited for it goes out."""
        for number in self._waiting.pop(group, []):
            if (pending := self._pending.get(number)) is not None:
                self._repeat(pending)

    def _host_gone(self, host: Host) -> None:
        """A host is dead: calls that were with it are made again, and its streams are given to the next."""
        for pending in [one for one in self._pending.values() if one.pid == host.pid and one.stage is None]:
            self._repeat(pending)
        for id, watched in list(self._watched.items()):
            for stage in [stage for stage, pid in watched.bound.items() if pid == host.pid]:
                del watched.bound[stage]
                self._drop(id, stage)
                self._settle_provider(id, stage)
                self._move(id, self._stages.again(id, stage))

    def _repeat(self, pending: Pending) -> None:
        """Make a call again; its hooks may have another provider by now."""
        message = pending.message
        if pending.stage is not None or pending.answer is not None:
            if pending.stage is not None:
                self._settle_provider(message.id, pending.stage)
                pending.provider = self._stages.ways[message.id].stages[pending.stage].hop.provider
            self._go(pending)
            return
        del self._pending[pending.number]
        tries = self._tries[message.id] = self._tries.get(message.id, 0) + 1
        now = self._loop.time()
        if tries > RETRIES:
            self._dispatch(on.HookFailed(now, message.id, message.point, (), f"its host died {tries} times under it"))
        else:
            self._dispatch(on.HookAgain(now, message.id, message.point))

    def _settle_provider(self, id: str, index: int) -> None:
        """Let a stage go to where its hooks are by now."""
        way = self._stages.ways.get(id)
        if way is not None:
            hop = way.stages[index].hop
            providers = {self._where(entry.key) or hop.provider for entry in hop.entries}
            if len(providers) == 1:
                way.stages[index].hop = Hop(providers.pop(), hop.entries)

    def _drop(self, id: str, stage: int) -> None:
        for number in [n for n, one in self._pending.items() if one.message.id == id and one.stage == stage]:
            del self._pending[number]

    def _leave(self, pid: int) -> None:
        """A host that is not the current one any more may leave when nothing is with it."""
        host = self._hosts.of(pid)
        if host is not None and host.draining:
            busy = any(one.pid == pid for one in self._pending.values())
            if not busy and not any(pid in watched.bound.values() for watched in self._watched.values()):
                self._hosts.stop(host)

    def provider_gone(self, provider: str) -> None:
        """A connection that provided hooks has ended."""
        why = "its provider has gone"
        for pending in [one for one in self._pending.values() if one.provider == provider]:
            self._fail(pending, (), why)
        for id, stage in self._stages.of(provider):
            self._move(id, self._stages.failed(self._loop.time(), id, stage, (), why))

    # ------------------------------------------------------------ text

    def open(self, record: Record, hops: list[Hop]) -> None:
        """Let the text of a request pass these handlers, or hold it whole for hooks that want it then."""
        self._flow.watch(record.id, bool(hops))
        self._watched[record.id] = Watched(record)
        if hops:
            self._stages.open(record.id, hops)
            self._look()

    def feed(self, id: str, text: str) -> None:
        """Take text from an engine."""
        self._move(id, self._stages.feed(self._loop.time(), id, text))

    def give(self, id: str, text: str) -> None:
        """Take the whole text of an answer that no worker streamed."""
        if id in self._stages.ways:
            self.feed(id, text)
            return
        if (watched := self._watched.get(id)) is not None:
            watched.text = text
        if watched is None or watched.record.stream:
            self._deliver(id, text)

    def finish(self, id: str) -> None:
        """The engine is done; the core is told when all text has passed."""
        if id in self._stages.ways:
            self._move(id, self._stages.finish(self._loop.time(), id))
            return
        watched = self._watched.get(id)
        text = self._flow.text(id) if watched is None or watched.text is None else watched.text
        self._dispatch(on.StagesEnded(self._loop.time(), id, text))

    def forget(self, id: str) -> None:
        """A request is over."""
        for number in [number for number, one in self._pending.items() if one.message.id == id]:
            del self._pending[number]
        self._tries.pop(id, None)
        watched = self._watched.pop(id, None)
        stages = self._stages.drop(id)
        if watched is None:
            return
        for stage in stages:
            if stage.hop.provider.startswith("conn:"):
                self._send(int(stage.hop.provider[5:]), HookEnd(id))
        for pid in set(watched.bound.values()):
            if (host := self._hosts.of(pid)) is not None:
                self._hosts.send_end(host, id)
                self._leave(pid)

    def _deliver(self, id: str, text: str) -> None:
        sends: Sends = []
        self._flow.put(id, text, sends)
        self._send_text(sends)

    def _move(self, id: str, moves: Moves) -> None:
        """Carry out what happened to the stages."""
        now = self._loop.time()
        for one, text in moves.texts:
            if (watched := self._watched.get(one)) is not None and watched.record.stream:
                self._deliver(one, text)
        for call in moves.calls:
            self._stage_call(call)
        for entry in moves.tripped:
            self._perform(pipeline.tripped(entry))
        for one, hook, why in moves.stopped:
            self._dispatch(on.StageStopped(now, one, hook, why))
        for one, hook, why in moves.failed:
            self._dispatch(on.StageFailed(now, one, hook, why, tuple(self._stages.report(one))))
        for one in moves.ended:
            if one in self._stages.ways:
                report = tuple(self._stages.report(one))
                self._dispatch(on.StagesEnded(now, one, self._stages.text(one), report))
        if id and self._stages.quiet(id) and (more := self._flow.settle(id)):
            self._grant(id, more, 0)

    def _stage_call(self, call: StageCall) -> None:
        watched = self._watched.get(call.id)
        if watched is None:
            return
        record, hop, number = watched.record, call.hop, self._number()
        value = {"call": pipeline.about(record), "text": call.text} if call.seq == 0 else {"text": call.text}
        message = HookCall(
            number, "chunk", list(hop.names), value, call.id, call.seq, call.last, call.flush,
            pipeline.states(record, hop) if call.seq == 0 else {}, sum(hop.deadlines),
        )  # fmt: skip
        self._go(Pending(number, hop.provider, message, 0.0, call.stage, hop, hop.deadlines))
