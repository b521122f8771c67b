"""What a worker takes of the machine's memory, or of its GPUs', and whether that is news."""

import asyncio

from ingled import link
from ingled.worker import group
from ingled.worker.engine import Load

CHANGED = 0.002
"""What changes by a smaller part is no news: who idles sends nothing."""
FULL = 0.8
"""Such a part of the largest batch counts for it: of a prompt that was cut for the next step, nothing is known."""
ROOM_NEWS = 0.005
"""It is told when such a part of the memory has come or gone."""


class Footprint:
    """The memory of this process group. Made before its first fork."""

    def __init__(self) -> None:
        self._group = group.Taken()
        self._gauge = group.Gauge(self._group)
        self._told: list[link.Gpu] = []
        self._ready = False
        self.memory = 0
        """Bytes of the machine's memory; of pages that processes share, their part."""
        self.taken = 0
        """Bytes that the worker alone has now, as was told last."""
        self.most = 0
        """The most that it has had since the model was ready."""
        self._filled = self.full = False
        """The largest batch has run; and `most` counts that."""
        self.on_device = False
        """`taken` is memory of GPUs."""

    async def loaded(self, taken: int) -> int:
        """The model is ready, with so much of its devices; 0: they have none of their own. Returns what it takes."""
        self.on_device = bool(taken)
        await asyncio.to_thread(self._group.mark)
        self.taken = self.most = taken or (await asyncio.to_thread(self._gauge.read)).taken
        return self.taken

    def serves(self) -> None:
        """What it has at most is news from now on."""
        self._ready = True

    def took(self, taken: int) -> None:
        """It has so much of its devices, as it says itself."""
        self.taken, self.most = taken, max(self.most, taken)

    def runs(self, now: Load, info: link.Info) -> None:
        """So much has run."""
        self._filled = now.crowd >= info.max_running > 0 and now.batch >= FULL * info.batch_tokens > 0

    async def look(self, *, anew: bool = False) -> bool:
        """Measure what has changed, or all `anew`; returns whether that is news."""
        filled = self._filled
        news = filled is not self.full and not self.on_device
        sizes = await asyncio.to_thread(self._gauge.read, anew=anew or news)
        self.memory = sizes.divided
        if not self._ready or self.on_device:
            return False
        more = sizes.most > self.most * (1 + CHANGED)
        if not more and abs(sizes.taken - self.taken) <= self.taken * CHANGED and filled is self.full:
            return False
        self.taken, self.most, self.full = sizes.taken, max(sizes.most, self.most), filled
        return True

    def is_news(self, gpus: list[link.Gpu]) -> bool:
        """Return whether the memory of GPUs is another than when this was last true."""
        pairs = zip(gpus, self._told, strict=False)
        if len(gpus) == len(self._told) and not any(
            abs(now.free - was.free) > now.total * ROOM_NEWS for now, was in pairs
        ):
            return False
        self._told = gpus
        return True
