"""An answer out of an asynchronous generator of deltas: a task pulls it, once for each `take` that wants more."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from ingled.worker.engine import Delta


class Generated:
    """Implements `ingled.worker.engine.Answer`. The first delta is pulled at once, so that the engine begins."""

    def __init__(
        self,
        deltas: AsyncGenerator[Delta, None],
        abort: Callable[[], Awaitable[None]],
        news: Callable[[], None],
        counts: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        """`abort` lets the generator's next delta be its last; before the engine knows the request it does nothing.

        `counts` tells the tokens of prompt and answer, where the engine says that it is done before its end is pulled.
        """
        self._counts = counts
        self._deltas = deltas
        self._end = abort
        self._news = news
        self._held: Delta | None = None
        self._errors: list[Exception] = []
        """At most one, forgotten when it is raised: its traceback leads back here."""
        self._aborted = False
        self._go = asyncio.Event()
        self._aborting: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._pull())

    def take(self) -> Delta | None:
        """Return what was pulled, or let the generator be pulled."""
        if self._errors:
            raise self._errors.pop()
        delta, self._held = self._held, None
        if delta is None:
            self._go.set()
        return delta

    @property
    def counts(self) -> tuple[int, int] | None:
        """Return what the engine says."""
        return self._counts()

    def abort(self) -> None:
        """End the generator."""
        self._aborted = True
        self._aborting = asyncio.create_task(self._abort())

    def close(self) -> None:
        """Close the generator."""
        self._task.cancel()

    async def _abort(self) -> None:
        await self._end()

    async def _pull(self) -> None:
        try:
            async with aclosing(self._deltas) as deltas:
                async for delta in deltas:
                    if delta.end is not None:
                        break
                    if self._aborted:  # it came too early for the engine to know the request
                        await self._end()
                    self._go.clear()  # what wanted more before this one has it now
                    self._held = delta
                    self._news()
                    await self._go.wait()
            self._held = delta  # the end, once the generator has cleaned up
        except Exception as error:
            self._errors = [error]
        self._news()
