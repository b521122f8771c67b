"""Everything between the core and the providers of hooks: calls of the chain, tests of one hook, and text.

A provider that does not answer in time has failed at that call, by the policy of its hooks. A host that died or hangs
is replaced; the calls that were not at fault are made again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ingle.wire.hook_schema import HookCall, HookReply, Point
from ingle.wire.schema import ToClient

from ingled.broker.hook_calls import RETRIES, HookCalls, Pending
from ingled.broker.hook_text import HookText
from ingled.broker.host import Host
from ingled.broker.hosts import Hosts
from ingled.broker.observers import Observers
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.flow import Flow, Sends
from ingled.core.registry import Entry


class HookFront:
    """The hooks of the daemon, as the shell knows them."""

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
        self._loop, self._hosts, self._dispatch = loop, hosts, dispatch
        self.calls = HookCalls(loop, hosts, send)
        self.observers = Observers(loop, self.calls, dispatch)
        self.text = HookText(
            loop,
            flow,
            hosts,
            self.calls,
            dispatch=dispatch,
            perform=perform,
            send=send,
            send_text=send_text,
            grant=grant,
            where=where,
        )
        self._tries: dict[str, int] = {}
        """By request, how often its calls were made again."""
        hosts.judge.on_hang = self.calls.blame
        hosts.on_ready, hosts.on_gone, hosts.on_drain = self.calls.host_ready, self._host_gone, self._leave

    def call(self, effect: do.CallHooks) -> None:
        """Call hooks for the core."""
        if effect.so_far:
            effect.value["answer"]["text"] = self.text.so_far(effect.id)
        if effect.reply:
            self.calls.make(self, effect)
        elif effect.confirmed:
            self.observers.call(effect)
        else:
            self.calls.tell(effect)

    def test(
        self, entry: Entry, point: Point, value: dict[str, Any], answer: Callable[[HookReply | str], None]
    ) -> None:
        """Call one hook with an example; `answer` gets its reply, or why there is none."""
        number = self.calls.number()
        message = HookCall(
            number, point, [entry.name], value, f"test-{number}",
            last=point == "chunk", deadline_ms=entry.offer.deadline_ms,
        )  # fmt: skip
        self.calls.go(Pending(_Test(self.calls, answer), number, entry.provider, message))

    def reply(self, provider: str, reply: HookReply) -> bool:
        """Take the answer to a call from a provider; returns whether it was waited for."""
        pending = self.calls.reply(provider, reply)
        if pending is not None and pending.pid is not None:
            self._leave(pending.pid)
        return pending is not None

    def provider_gone(self, provider: str) -> None:
        """A connection that provided hooks has ended."""
        self.observers.provider_gone(provider)
        self.calls.provider_gone(provider)
        self.text.provider_gone(provider)

    def forget(self, id: str) -> None:
        """A request is over."""
        self.calls.drop(id)
        self._tries.pop(id, None)
        for pid in self.text.forget(id):
            self._leave(pid)

    # ------------------------------------------------------------ calls of the chain

    def replied(self, pending: Pending, reply: HookReply) -> None:
        """Hooks have answered."""
        message, results = pending.message, tuple(reply.results)
        self._dispatch(on.HookReplied(self._loop.time(), message.id, message.point, results, reply.value))

    def failed(self, pending: Pending, blamed: tuple[str, ...], why: str) -> None:
        """Hooks have not answered."""
        message = pending.message
        self._dispatch(on.HookFailed(self._loop.time(), message.id, message.point, blamed, why))

    def again(self, pending: Pending) -> None:
        """Have a call made again; its hooks may have another provider by now."""
        message, now = pending.message, self._loop.time()
        tries = self._tries[message.id] = self._tries.get(message.id, 0) + 1
        if tries > RETRIES:
            self._dispatch(on.HookFailed(now, message.id, message.point, (), f"its host died {tries} times under it"))
        else:
            self._dispatch(on.HookAgain(now, message.id, message.point))

    # ------------------------------------------------------------ hosts

    def _host_gone(self, host: Host) -> None:
        self.calls.host_gone(host)
        self.text.host_gone(host)

    def _leave(self, pid: int) -> None:
        """A host that is not the current one any more may leave when nothing is with it."""
        host = self._hosts.of(pid)
        if host is not None and host.draining and not self.calls.at(pid) and not self.text.at(pid):
            self._hosts.stop(host)


@dataclass(frozen=True, slots=True)
class _Test:
    """A call with an example, which belongs to no request."""

    calls: HookCalls
    answer: Callable[[HookReply | str], None]
    """Is told the reply, or why there is none."""

    def replied(self, pending: Pending, reply: HookReply) -> None:
        self.answer(reply)

    def failed(self, pending: Pending, blamed: tuple[str, ...], why: str) -> None:
        self.answer(why)

    def again(self, pending: Pending) -> None:
        self.calls.go(pending)
