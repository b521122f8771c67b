"""Timers of the core, by key, on the event loop."""

import asyncio
from collections.abc import Callable

Key = tuple[str, str]


class Timers:
    """At most one timer for each key."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fired: Callable[[Key], None]) -> None:
        self._loop, self._fired = loop, fired
        self._handles: dict[Key, asyncio.TimerHandle] = {}

    def set(self, key: Key, at: float) -> None:
        """Fire at this time of the loop's clock; replaces an earlier timer of the key."""
        self.clear(key)
        self._handles[key] = self._loop.call_at(at, self._fire, key)

    def clear(self, key: Key) -> None:
        """Forget a timer, if there is one."""
        handle = self._handles.pop(key, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, key: Key) -> None:
        self._handles.pop(key, None)
        self._fired(key)
