"""How often models are asked outlives the daemon: which of them stay is decided by it."""

import asyncio
import time
from collections.abc import Mapping

from ingled.broker.ledger import Ledger
from ingled.core.placement import Uses
from ingled.core.residency import Model

WRITE_S = 60.0
"""Between two writes: uses count for an hour, and a minute of them is no loss."""
LEAST = 0.01
"""What counts for less of one use is forgotten."""


class Popularity:
    """Between the models in the core and the ledger."""

    def __init__(self, models: Mapping[str, Model], ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        """Go on with what was written down."""
        self._models, self._ledger, self._loop = models, ledger, loop
        began = loop.time() - max(0.0, time.time() - ledger.asked.at)
        self._known = {name: Uses(count, began) for name, count in ledger.asked.uses.items()}
        for name, uses in self._known.items():
            if name in models:
                models[name].uses = Uses(uses.count, uses.at)
        self._written = self._last

    @property
    def _last(self) -> float:
        return max((model.uses.at for model in self._models.values()), default=0.0)

    def write(self) -> None:
        """Write down what is new; of models that are configured no more, what was known."""
        if self._last != self._written:
            now, self._written = self._loop.time(), self._last
            self._known |= {name: model.uses for name, model in self._models.items() if model.uses.count}
            left = {name: round(uses.left(now), 3) for name, uses in self._known.items()}
            self._ledger.used({name: count for name, count in left.items() if count >= LEAST})

    async def keep_writing(self) -> None:
        """Write down what is new, for ever."""
        while True:
            await asyncio.sleep(WRITE_S)
            self.write()
