"""Calls of hooks on their way to a connection or a host of plugins, each with a deadline.

Who has a call made is told the answer, or why there is none, or that it is to be made again: the host that had it has
died of another one, or the one that it waited for has come.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingle.wire.hook_schema import HookCall, HookReply
from ingle.wire.schema import ToClient

from ingled.broker.host import Host
from ingled.broker.hosts import Hosts
from ingled.core import effects as do
from ingled.core.chain import Hop

LOOK_S = 0.01
"""Seconds between two looks at the deadlines."""
HOST_WAIT_S = 10.0
"""Seconds that a call waits for a host that is being started."""
RETRIES = 3
"""How often calls are made again because their host died of another one."""
PATIENCE = 4
"""How often a call that did nothing wrong waits for the verdict on its host."""


class Asker(Protocol):
    """Who has calls made."""

    def replied(self, pending: "Pending", reply: HookReply) -> None:
        """Take the answer."""

    def failed(self, pending: "Pending", blamed: tuple[str, ...], why: str) -> None:
        """There is none; `blamed` are the hooks that were at work, where that is known."""

    def again(self, pending: "Pending") -> None:
        """The call has no provider now, through no fault of its own: it is to be made again."""


@dataclass(slots=True)
class Pending:
    """A call without an answer yet."""

    asker: Asker
    number: int
    provider: str
    message: HookCall
    deadlines: tuple[int, ...] = ()
    """Milliseconds for each hook of it."""
    station: int | None = None
    hop: Hop | None = None
    """Where it is for the text of a stream; None for a call of the chain."""
    bound: int | None = None
    """The one host that may have it: it knows the stream."""
    deadline: float = 0.0
    pid: int | None = None
    """The host that has it."""
    at: int = 0
    at_since: float = 0.0
    """The hook that the host was seen at last, and since when."""
    waits: int = 0


class HookCalls:
    """All calls that are on their way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hosts: Hosts, send: Callable[[int, ToClient], bool]) -> None:
        """`send` returns whether the connection exists."""
        self._loop, self._hosts, self._send = loop, hosts, send
        self._pending: dict[int, Pending] = {}
        self._waiting: dict[str, list[int]] = {}
        """By group of plugins, calls for which there is no host now."""
        self._numbers = 0
        self._looking = False

    def number(self) -> int:
        """Return a number for the next call."""
        self._numbers += 1
        return self._numbers

    def make(self, asker: Asker, effect: do.CallHooks) -> None:
        """Make the call that the core wants."""
        number = self.number()
        self.go(Pending(asker, number, effect.provider, _message(number, effect), effect.deadlines))

    def tell(self, effect: do.CallHooks) -> None:
        """Send a call to a client that answers none of this kind."""
        self._send(int(effect.provider.removeprefix("conn:")), _message(0, effect))

    def go(self, pending: Pending) -> None:
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
            host = self._hosts.current(name) if pending.bound is None else self._hosts.of(pending.bound)
            if host is None:
                self._waiting.setdefault(name, []).append(pending.number)
                pending.pid, pending.deadline = None, now + HOST_WAIT_S
                self._hosts.want(name)
            else:
                pending.pid, pending.deadline = host.pid, now + pending.message.deadline_ms / 1000
                pending.at, pending.at_since = 0, now
                self._hosts.mail.call(host, pending.message)
        self._look()

    def reply(self, provider: str, reply: HookReply) -> Pending | None:
        """Take the answer to a call from a provider; one that comes too late, or from another, changes nothing.

        Returns the call.
        """
        pending = self._pending.get(reply.call)
        if pending is None or provider != (pending.provider if pending.pid is None else f"pid:{pending.pid}"):
            return None
        del self._pending[reply.call]
        pending.asker.replied(pending, reply)
        return pending

    def drop(self, id: str, station: int | None = None) -> None:
        """Forget the calls of a request, or of one station of its text; observers are told all the same."""
        for pending in [
            one for one in self._pending.values() if one.message.id == id and station in (None, one.station)
        ]:
            if pending.message.point != "observe":
                del self._pending[pending.number]

    def at(self, pid: int) -> bool:
        """Return whether a host has calls."""
        return any(one.pid == pid for one in self._pending.values())

    def provider_gone(self, provider: str) -> None:
        """A connection that provided hooks has ended."""
        for pending in [one for one in self._pending.values() if one.provider == provider]:
            self._fail(pending, (), "its provider has gone")

    def _fail(self, pending: Pending, blamed: tuple[str, ...], why: str) -> None:
        if self._pending.pop(pending.number, None) is not None:
            pending.asker.failed(pending, blamed, why)

    def _repeat(self, pending: Pending) -> None:
        if self._pending.pop(pending.number, None) is not None:
            pending.asker.again(pending)

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
        if self._pending:
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
            self._hosts.judge.judge(host)  # `blame` is told whose fault it is
            pending.deadline = now + 0.25
        elif host.stuck and pending.waits < PATIENCE:
            pending.waits += 1
            pending.deadline = now + 0.25
        else:
            blamed = () if at is None else (pending.message.hooks[at],)
            host.stuck.add(pending.number)
            self._hosts.replace(host, f"a call of '{pending.message.hooks[at or 0]}' does not end")
            self._fail(pending, blamed, why)

    # ------------------------------------------------------------ hosts

    def blame(self, host: Host, numbers: Sequence[int], why: str) -> list[str]:
        """A host hangs or has died at these calls: they have failed. Returns the hooks that were at work."""
        busy = host.busy()
        found = []
        for number in numbers:
            pending = self._pending.get(number)
            if pending is not None and number in busy:
                hook = pending.message.hooks[min(busy[number], len(pending.message.hooks) - 1)]
                found.append(hook)
                self._fail(pending, (hook,), why)
        return found

    def host_ready(self, group: str) -> None:
        """There is a host again: what waited for it goes out."""
        for number in self._waiting.pop(group, []):
            if (pending := self._pending.get(number)) is not None:
                self._repeat(pending)

    def host_gone(self, host: Host) -> None:
        """A host is dead: calls of the chain that were with it are made again."""
        for pending in [one for one in self._pending.values() if one.pid == host.pid and one.station is None]:
            self._repeat(pending)


def _message(number: int, effect: do.CallHooks) -> HookCall:
    return HookCall(
        number, effect.point, list(effect.hooks), effect.value, effect.id,
        states=effect.states, deadline_ms=sum(effect.deadlines),
    )  # fmt: skip
