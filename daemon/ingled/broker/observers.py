"""Calls of hooks that observe, for which nobody waits: a few of each provider at a time, each with its deadline."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ingle.wire.hook_schema import HookReply

from ingled.broker.hook_calls import RETRIES, HookCalls, Pending
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.chain import fits

AT_ONCE = 8
"""Calls that are with one host; the deadlines of the others have not begun. Of a client, maybe of one thread: one."""
WAITING = 1000
WAITING_CHARS = 32 << 20
"""Most calls that wait for one provider, and characters of text in them. What comes on top is lost, and a failure."""


@dataclass(slots=True)
class Queue:
    """What one provider is to be told."""

    waiting: deque[tuple[do.CallHooks, int]] = field(default_factory=deque)
    """With the size of each."""
    chars: int = 0
    running: int = 0


class Observers:
    """All calls that are answered and that nobody waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: HookCalls, dispatch: Callable[[on.Event], None]) -> None:
        self._loop, self._calls, self._dispatch = loop, calls, dispatch
        self._queues: dict[str, Queue] = {}
        self._died: dict[int, int] = {}
        """By number of a call, how many hosts have died under it."""

    @property
    def idle(self) -> bool:
        """Return whether everybody has been told everything."""
        return not any(queue.waiting or queue.running for queue in self._queues.values())

    def provider_gone(self, provider: str) -> None:
        """A connection has ended: nobody can be told any more."""
        self._queues.pop(provider, None)

    def call(self, effect: do.CallHooks) -> None:
        """Have hooks told, as soon as they have time."""
        queue, size = self._queues.setdefault(effect.provider, Queue()), _size(effect)
        if len(queue.waiting) >= WAITING or queue.chars + size > WAITING_CHARS:
            why = f"it is too slow: {len(queue.waiting)} calls wait for it"
            self._dispatch(on.ObserverFailed(self._loop.time(), effect.provider, effect.point, effect.hooks, why))
            return
        queue.waiting.append((effect, size))
        queue.chars += size
        self._next(effect.provider)

    def _next(self, provider: str) -> None:
        queue, most = self._queues.get(provider), 1 if provider.startswith("conn:") else AT_ONCE
        while queue is not None and queue.waiting and queue.running < most:
            effect, size = queue.waiting.popleft()
            queue.chars -= size
            queue.running += 1
            self._calls.make(self, effect)

    def _over(self, pending: Pending) -> None:
        self._died.pop(pending.number, None)
        if (queue := self._queues.get(pending.provider)) is not None:
            queue.running -= 1
            self._next(pending.provider)

    def replied(self, pending: Pending, reply: HookReply) -> None:
        """Hooks have been told."""
        message, results = pending.message, tuple(reply.results)
        decided = [result.verdict for result in results if result.verdict not in ("unchanged", "error")]
        wrong = f"it cannot say '{decided[0]}' at '{message.point}'" if decided else fits(message.hooks, results)
        if wrong:
            self.failed(pending, (), wrong)
            return
        self._dispatch(on.Observed(self._loop.time(), pending.provider, message.point, results))
        self._over(pending)

    def failed(self, pending: Pending, blamed: tuple[str, ...], why: str) -> None:
        """Hooks have not been told, as far as anybody knows; those behind the ones at fault are told once more."""
        message = pending.message
        guilty = blamed or tuple(message.hooks)
        self._dispatch(on.ObserverFailed(self._loop.time(), pending.provider, message.point, guilty, why))
        at = max(message.hooks.index(hook) for hook in guilty) + 1
        if message.hooks[at:]:
            rest = do.CallHooks(
                pending.provider, message.id, message.point, tuple(message.hooks[at:]), message.value,
                message.states, pending.deadlines[at:], False,
            )  # fmt: skip
            self.call(rest)
        self._over(pending)

    def again(self, pending: Pending) -> None:
        """The host has died of another call, or one has come: hooks may be told twice."""
        died = self._died[pending.number] = self._died.get(pending.number, 0) + (pending.pid is not None)
        if died > RETRIES:
            self.failed(pending, (), f"its host died {died} times under it")
        else:
            self._calls.go(pending)


def _size(effect: do.CallHooks) -> int:
    answer = effect.value.get("answer") or {}
    return len(answer.get("text", "")) + sum(len(message["content"]) for message in answer.get("messages", ()))
