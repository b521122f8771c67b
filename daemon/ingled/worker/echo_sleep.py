"""The sleep of the engine without weights: its memory is a number, and it fails as it is told."""

import asyncio

from ingled.link import Estimate
from ingled.worker.sleeper import DeviceMemory

DEVICE = 1 << 40
"""Bytes of the device that there is not."""


class EchoBed:
    """Implements `ingled.worker.sleeper.Bed`."""

    def __init__(self, how: str, memory: Estimate, seconds: float) -> None:
        """`how` is `Options.sleep`; going to sleep takes as long as waking."""
        self._how, self._memory, self._seconds = how, memory, seconds
        self._asleep = False
        self._woken = self._asked = 0

    async def device_memory(self) -> DeviceMemory:
        """Return what it says that it takes, less weights and KV cache while it sleeps."""
        memory = self._memory
        own = memory.process
        if not self._asleep or self._how == "keeps":
            own += memory.weights + memory.kv_cache + memory.activations
        return DeviceMemory(own, DEVICE - own)

    async def sample(self) -> list[int]:
        """Return some tokens; others after it woke, or each time, if it was told to."""
        self._asked += 1
        return [{"changes": self._woken, "forgets": self._asked}.get(self._how, 0)]

    async def suspend(self, level: int) -> None:
        """Sleep, or fail."""
        await asyncio.sleep(self._seconds)
        if self._how == "raises":
            raise RuntimeError("the echo engine was told not to sleep")
        self._asleep = True

    async def resume(self, level: int) -> None:
        """Wake."""
        await asyncio.sleep(self._seconds)
        self._asleep = False
        self._woken += 1
