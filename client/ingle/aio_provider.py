"""Hooks for asyncio: functions that `await`, run on the loop of the program that offers them.

    @hook(point="prompt")
    async def checked(messages):
        return refuse("not today") if await is_holiday() else None

    async with Provider(checked):
        ...

It is `ingle.provider` on threads of its own, so that calls are heard, and met in time, while the loop is busy.
"""

import asyncio
import concurrent.futures
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any, Self

from ingle import provider
from ingle.hook_calls import Call, Failure, Runner
from ingle.provider import FOREVER, Hook, OnError, hook_of, log


class Provider:
    """Hooks that are offered while this is open; their functions may be coroutine functions, and their handlers'
    `feed` and `flush` too. Those that are not run in a thread. `at_once`: how many calls may run at a time.
    """

    def __init__(
        self,
        *hooks: Any,
        socket: str | None = None,
        at_once: int = 8,
        name: str = "python",
        tags: Sequence[str] = (),
        timeout: float = 10.0,
        patience: float = FOREVER,
        on_error: OnError = log,
    ) -> None:
        self._hooks = hooks
        self._options: dict[str, Any] = {"socket": socket, "threads": at_once, "name": name, "tags": tags}
        self._options |= {"timeout": timeout, "patience": patience, "on_error": on_error}
        self._maybe_provider: provider.Provider | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._loop = loop
        opened = provider.Provider(*(self._awaiting(hook) for hook in self._hooks), **self._options)
        await asyncio.to_thread(opened.open)
        self._maybe_provider = opened
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._provider.close)

    @property
    def _provider(self) -> provider.Provider:
        if self._maybe_provider is None:
            raise RuntimeError("the hooks are not offered: use `async with Provider(...)`")
        return self._maybe_provider

    async def offer(self, hook: Any) -> Any:
        """Offer one more, or one of the same name instead; returns what the daemon made of it: order, scope, points."""
        return await asyncio.to_thread(self._provider.offer, self._awaiting(hook))

    async def withdraw(self, name: str) -> None:
        """Offer a hook no more."""
        await asyncio.to_thread(self._provider.withdraw, name)

    async def wait(self) -> None:
        """Wait until this is closed. Raises what ended it otherwise."""
        await asyncio.to_thread(self._provider.wait)

    def _awaiting(self, hook: Any) -> Hook:
        found = hook_of(hook)
        runners = {point: _runner(self._loop, point, runner) for point, runner in found.runners.items()}
        return Hook(found.name, runners, found.offer)


def _runner(loop: asyncio.AbstractEventLoop, point: str, runner: Runner) -> Runner:
    def run(shown: Any, call: Call) -> Any:
        result = _result(loop, runner(shown, call), call)
        return _Handler(loop, result, call) if point == "chunk" and result is not None else result

    return run


class _Handler:
    """A handler whose functions may be awaited."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handler: Any, call: Call) -> None:
        self._loop, self._handler, self._call = loop, handler, call

    @property
    def held(self) -> int:
        return int(self._handler.held)

    def feed(self, text: str) -> Any:
        return _result(self._loop, self._handler.feed(text), self._call)

    def flush(self) -> Any:
        return _result(self._loop, self._handler.flush(), self._call)

    def close(self) -> None:
        if (close := getattr(self._handler, "close", None)) is not None:
            close()


def _result(loop: asyncio.AbstractEventLoop, result: Any, call: Call) -> Any:
    """Return what a function returned, or what its coroutine returns on the loop. Raises Failure when it is late."""
    if not asyncio.iscoroutine(result):
        return result
    return _awaited(loop, result, call.deadline - monotonic())


def _awaited(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], seconds: float) -> Any:
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:  # the loop is closed
        coroutine.close()
        raise Failure("the program's loop has ended") from None
    try:
        return future.result(max(0.0, seconds))
    except concurrent.futures.TimeoutError:
        if future.done():  # its own
            raise
        future.cancel()
        raise Failure("it was not done in time, and has been cancelled") from None
