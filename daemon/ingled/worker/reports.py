"""What a worker tells the broker unasked: that it lives, how busy it is, and what it takes of the machine."""

import asyncio
from collections.abc import Callable

from ingled import link
from ingled.worker.engine import Engine
from ingled.worker.footprint import Footprint
from ingled.worker.rest import Rest
from ingled.worker.uplink import Uplink

MEMORY_S = 10.0
"""How often it is looked whether the memory has changed."""

ROOM_S = 2.0
"""How often the driver is asked for the memory of the GPU."""


class Reports:
    """Its `tick`, `measure` and `look_at_device` each run until they are cancelled."""

    def __init__(
        self, engine: Engine, uplink: Uplink, footprint: Footprint, rest: Rest, busy: Callable[[], bool]
    ) -> None:
        """`busy`: requests run."""
        self._engine, self._uplink, self._footprint, self._rest = engine, uplink, footprint, rest
        self._busy = busy
        self._worked = False

    def works(self) -> None:
        """There has been something to do since the last statistics."""
        self._worked = True

    def idles(self) -> None:
        """Tell with the chunks and ends of this turn that the last request is over, if one was."""
        if self._worked:
            self._worked = False
            self._uplink.after(self._stats())

    async def tick(self) -> None:
        """Say that the worker lives, and what it does."""
        while True:
            self._uplink.tick()
            if self._busy() or self._worked:
                self._worked = self._busy()
                self._uplink.send(self._stats())
            await asyncio.sleep(self._uplink.tick_s)

    async def measure(self) -> None:
        """Look at the memory."""
        while True:
            await self.look_at_memory()
            await asyncio.sleep(MEMORY_S)

    async def look_at_memory(self, *, anew: bool = False) -> None:
        """Tell what it has, and has had at most, if that is news: also who has nothing to do may just have worked."""
        if await self._footprint.look(anew=anew):
            self._uplink.send(self._stats())

    async def look_at_device(self) -> None:
        """Look at the memory of the GPUs, where the model has some of it."""
        while True:
            await asyncio.sleep(ROOM_S)
            if self._footprint.on_device and not self._rest.moving:
                gpus = await asyncio.to_thread(self._engine.gpus)
                if self._footprint.is_news(gpus):
                    self._uplink.send(link.Room(gpus))

    def _stats(self) -> link.Stats:
        now = self._engine.load_now()
        if self._rest.info is not None:
            self._footprint.runs(now, self._rest.info)
        return link.Stats(
            now.running,
            now.waiting,
            now.kv_use,
            now.prompt_tokens,
            now.cached_tokens,
            now.completion_tokens,
            self._footprint.memory,
            self._footprint.taken,
            self._footprint.most,
            self._footprint.full,
        )
