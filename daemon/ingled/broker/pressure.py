"""Whether others are short of memory while models have it: the core is told once two looks in a row say so."""

from collections.abc import Callable

from ingled.core import events as on


class Pressure:
    """Remembers the last look."""

    def __init__(self, dispatch: Callable[[on.Event], None]) -> None:
        self._dispatch = dispatch
        self._short: set[bool] = set()

    def seen(self, now: float, missing: int, *, host: bool = False) -> None:
        """So many bytes are missing from what others are left; `host`: of the machine, where models are on a device."""
        if missing <= 0:
            self._short.discard(host)
        elif host in self._short:
            self._dispatch(on.MemoryShort(now, missing, host))
        else:
            self._short.add(host)
