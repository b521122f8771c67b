"""A model that sleeps, wakes, or is looked at: one order at a time, and the broker is told what came of it."""

import logging
import time
from collections.abc import Callable

from ingled import link
from ingled.worker.engine import Engine, SleepError

log = logging.getLogger(__name__)


class Rest:
    """Whether the engine sleeps, and the way there and back."""

    def __init__(
        self,
        engine: Engine,
        send: Callable[[link.FromPeer], None],
        *,
        took: Callable[[int], None],
        restless: Callable[[], None],
        die: Callable[[str], None],
    ) -> None:
        """`took` is told what an engine that woke has of its devices; `restless` and `die` end the worker."""
        self._engine, self._send = engine, send
        self._took, self._restless, self._die = took, restless, die
        self.info: link.Info | None = None
        """What the broker is told of the model, once it is ready: orders before that are not meant for it."""
        self.asleep: link.Asleep | None = None
        self.moving = ""
        """That the engine falls asleep, or wakes, or is looked at: it answers nothing, and has its own deadline."""

    def state(self, loading: link.Loading) -> link.Loading | link.Ready | link.Asleep:
        """Return what a broker has to know; `loading` while the model is not ready."""
        if self.moving:
            return link.Loading(self.moving)
        if self.asleep is not None:
            return self.asleep
        return loading if self.info is None else link.Ready(self.info)

    async def sleep(self, level: int) -> None:
        """Let the engine sleep."""
        if self.info is None or self.moving:
            return  # an order that was given twice
        if self.asleep is None:
            began, self.moving = time.monotonic(), "falls asleep"
            try:
                slept = await self._engine.sleep(level)
            except SleepError as error:
                self._fail(error)
                return
            seconds = round(time.monotonic() - began, 3)
            self.asleep = link.Asleep(self.info, level, slept.left, slept.freed, seconds)
            self.moving = ""
            log.info("asleep at level %d after %.1f s: %d MiB freed", level, seconds, slept.freed >> 20)
        self._send(self.asleep)

    async def wake(self) -> None:
        """Let the engine wake."""
        if self.info is None or self.moving:
            return
        woke = None
        if self.asleep is not None:
            began, self.moving = time.monotonic(), "wakes"
            try:
                taken = await self._engine.wake()
            except SleepError as error:
                self._fail(error)
                return
            woke = link.Woke(self.asleep.level, round(time.monotonic() - began, 3), taken)
            self._took(taken)
            self.asleep, self.moving = None, ""
            log.info("awake from level %d after %.1f s", woke.level, woke.seconds)
        self._send(link.Ready(self.info, woke))

    async def check(self) -> None:
        """See that the engine answers as before the machine was suspended."""
        if self.info is None or self.moving:
            return
        if self.asleep is None:
            self.moving = "is looked at"
            try:
                await self._engine.check()
            except SleepError as error:
                log.error("%s", error, exc_info=error.__cause__)
                self._die(f"after the machine was suspended {error}")
                return
            finally:
                self.moving = ""
        self._send(link.Ready(self.info) if self.asleep is None else self.asleep)

    def _fail(self, error: SleepError) -> None:
        log.error("%s", error, exc_info=error.__cause__)
        self._send(link.SleepFailed(str(error)))
        self._restless()
