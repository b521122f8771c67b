"""Lets an engine sleep and wake, and believes neither before it has seen it: memory comes back, answers stay the same.

It knows no engine: what it asks of one is `Bed`.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from ingled.worker.engine import SleepError, Slept

DEEP = 2
"""The level of sleep, as vLLM counts them, at which the weights are dropped."""
FREED_PART = 0.9
"""Part of weights and KV cache together that must have come back."""
DEADLINE_S = 600.0
"""Seconds that an engine may take to sleep or to wake: level 1 copies all weights."""
CHECK_S = 60.0
"""Seconds that it may take to answer a short prompt."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """In bytes, of all devices of the engine together."""

    own: int | None
    """What the engine has, where the driver tells."""
    free: int


class Bed(Protocol):
    """An engine that can sleep. Each call may raise anything."""

    async def device_memory(self) -> DeviceMemory:
        """Return how it is with the devices now."""
        ...

    async def sample(self) -> object:
        """Return what answers a prompt that is always the same."""
        ...

    async def suspend(self, level: int) -> None:
        """Sleep."""
        ...

    async def resume(self, level: int) -> None:
        """Wake, whole."""
        ...


class Sleeper:
    """One engine's sleep."""

    def __init__(self, bed: Bed, held: int, taken: int) -> None:
        """`held` bytes of weights and KV cache are on its devices, and `taken` in all."""
        self._bed, self._held, self._taken = bed, held, taken
        self._answer: object = None
        self._level = 0

    async def sleep(self, level: int) -> Slept:
        """Sleep, and look what has come back. Raises SleepError: what the engine does then is not known."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                if self._answer is None:
                    self._answer = await self._bed.sample()
                before = await self._bed.device_memory()
                await self._bed.suspend(level)
                after = await self._bed.device_memory()
        except Exception as error:
            raise _failure(f"sleep at level {level}", error) from error
        self._level = level
        freed = after.free - before.free
        if before.own is not None and after.own is not None:
            freed = max(freed, before.own - after.own)
        if freed < FREED_PART * self._held or not self._held:
            raise SleepError(f"asleep at level {level} it gave back {_mib(freed)} of {_mib(self._held)}")
        return Slept(self._taken - freed if after.own is None else after.own, freed)

    async def check(self) -> None:
        """See that it answers as it has answered before, if it has. Raises SleepError."""
        try:
            async with asyncio.timeout(CHECK_S):
                answer = await self._bed.sample()
        except Exception as error:
            raise _failure("answer a short prompt", error, CHECK_S) from error
        if self._answer is None:
            self._answer = answer
        elif answer != self._answer:
            raise SleepError("it answered the same prompt differently than before")

    async def wake(self) -> int:
        """Wake, and compare what it answers with what it answered before; returns what it has of its devices now.

        Raises SleepError.
        """
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._bed.resume(self._level)
                answer = await self._bed.sample()
                memory = await self._bed.device_memory()
        except Exception as error:
            raise _failure(f"wake from level {self._level}", error) from error
        if answer != self._answer:
            raise SleepError(f"awake from level {self._level} it answered the same prompt differently than before")
        self._level = 0
        return self._taken if memory.own is None else memory.own


def _failure(what: str, error: Exception, deadline: float = DEADLINE_S) -> SleepError:
    if isinstance(error, TimeoutError):
        return SleepError(f"it did not {what} within {deadline:.0f} s")
    text = " ".join(str(error).split())
    return SleepError(f"it could not {what}: {text or type(error).__name__}")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
