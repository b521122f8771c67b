"""Prepares requests that wait for a place, one after another: when it is their turn, the engine need not wait for that.

Several answers often end in the same step of the engine. To render and tokenise those that take their places only then
left the places empty for a tenth of the time (docs/performance.md, Turns).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from ingled.worker.engine import Request

log = logging.getLogger(__name__)

MOST_TOKENS = 1 << 20
"""Most tokens of prompts that are held ready; who waits behind them is prepared when some have gone."""


class Sized(Protocol):
    """What has been prepared."""

    @property
    def tokens(self) -> int:
        """Return the tokens of its prompt."""
        ...


P = TypeVar("P", bound=Sized)


class Ahead(Generic[P]):
    """Requests that wait, and what has been prepared of them."""

    def __init__(self, prepare: Callable[[Request], Awaitable[P]]) -> None:
        self._prepare = prepare
        self._waiting: dict[str, Request] = {}
        self._ready: dict[str, P] = {}
        self._failed: dict[str, Exception] = {}
        self._tokens = 0
        self._now: asyncio.Task[None] | None = None
        self._current: str | None = None

    def add(self, request: Request) -> None:
        """It will be wanted."""
        self._waiting[request.id] = request
        self._go_on()

    def forget(self, id: str) -> None:
        """It will not be wanted."""
        self._waiting.pop(id, None)
        self._failed.pop(id, None)
        self._pop(id)

    def take(self, id: str) -> P | None:
        """Return what has been prepared of a request; None: nothing, though that may have begun. Raises like `prepare`.

        What it returns, or raises, is wanted no more here.
        """
        if id in self._failed:
            raise self._failed.pop(id)
        return self._pop(id)

    def has_begun(self, id: str) -> bool:
        """Return whether it is being prepared at this moment."""
        return self._current == id

    async def prepare(self, request: Request) -> P:
        """Return it prepared, at once where that has been done. Raises what the preparation raised."""
        if self._current == request.id and self._now is not None:
            await asyncio.wait([self._now])
        self._waiting.pop(request.id, None)
        found = self.take(request.id)
        return await self._prepare(request) if found is None else found

    def _pop(self, id: str) -> P | None:
        found = self._ready.pop(id, None)
        if found is not None:
            self._tokens -= found.tokens
            self._go_on()
        return found

    def _go_on(self) -> None:
        if self._now is None and self._waiting and self._tokens < MOST_TOKENS:
            self._current = next(iter(self._waiting))
            self._now = asyncio.create_task(self._one(self._waiting[self._current]))
            self._now.add_done_callback(self._done)

    async def _one(self, request: Request) -> None:
        try:
            found = await self._prepare(request)
        except Exception as error:  # told when it is its turn
            if self._waiting.pop(request.id, None) is not None:
                self._failed[request.id] = error
            return
        if self._waiting.pop(request.id, None) is not None:  # it is wanted still
            self._ready[request.id] = found
            self._tokens += found.tokens

    def _done(self, _: object) -> None:
        self._now = self._current = None
        self._go_on()
