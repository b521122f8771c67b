"""Adapters are loaded and forgotten one after the other, and the broker is told what came of each."""

import asyncio
import logging
from collections.abc import Callable

from ingled import link
from ingled.worker.engine import Engine, EngineDead, LoadError

log = logging.getLogger(__name__)


class Adapting:
    """The adapters that an engine has, and what is to become of them."""

    def __init__(self, engine: Engine, send: Callable[[link.FromPeer], None], die: Callable[[str], None]) -> None:
        self._engine, self._send, self._die = engine, send, die
        self._changes: asyncio.Queue[link.AddAdapter | link.DropAdapter] = asyncio.Queue()
        self._there: dict[str, None] = {}

    def change(self, message: link.AddAdapter | link.DropAdapter) -> None:
        """Carry this out after those that came before."""
        self._changes.put_nowait(message)

    def attach(self) -> None:
        """Tell a new broker which there are."""
        for name in self._there:
            self._send(link.AdapterReady(name))

    async def run(self) -> None:
        """Carry out changes, once the model is ready."""
        while True:
            change = await self._changes.get()
            name = change.model
            try:
                if isinstance(change, link.DropAdapter):
                    self._there.pop(name, None)
                    await self._engine.drop_adapter(name)
                    self._send(link.AdapterGone(name))
                else:
                    await self._engine.add_adapter(change)
                    self._there[name] = None
                    self._send(link.AdapterReady(name))
            except EngineDead as error:
                self._die(str(error))
                return
            except Exception as error:
                reason = str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}"
                log.error("adapter '%s' cannot be changed: %s", name, reason, exc_info=error)
                self._send(link.AdapterFailed(name, reason))
