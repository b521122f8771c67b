"""Whether others are short of memory while models have it: the core is told once two looks in a row say so.

Each memory is looked at by itself: every GPU, the machine where models are in its memory, and the machine beside GPUs.
"""

from collections.abc import Callable

from ingled.core import events as on


class Pressure:
    """Remembers the last look."""

    def __init__(self, dispatch: Callable[[on.Event], None]) -> None:
        self._dispatch = dispatch
        self._short: set[tuple[bool, int | None]] = set()

    def seen(self, now: float, missing: int, *, host: bool = False, device: int | None = None) -> None:
        """So many bytes are missing from what others are left: of a device, or of the machine.

        `device`: its index; None: all devices are one memory. `host`: of the machine, where models are on others.
        """
        which = host, device
        if missing <= 0:
            self._short.discard(which)
        elif which in self._short:
            self._dispatch(on.MemoryShort(now, missing, host, device))
        else:
            self._short.add(which)
