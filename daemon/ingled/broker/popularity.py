"""How often models are asked outlives the daemon: which of them stay is decided by it."""

import asyncio

from ingled.broker.ledger import Ledger
from ingled.core.uses import Uses

WRITE_S = 60.0
"""Between two writes: some hundred uses count, and a minute of them is no loss."""


class Popularity:
    """Between the uses in the core and the ledger."""

    def __init__(self, uses: Uses, ledger: Ledger) -> None:
        """Go on with what was written down, of models that are not configured just now too."""
        self._uses, self._ledger = uses, ledger
        uses.go_on(ledger.asked.uses, ledger.asked.gap)
        self._written = uses.asked

    def write(self) -> None:
        """Write down what is new."""
        if self._uses.asked != self._written:
            self._written = self._uses.asked
            left = {name: round(count, 3) for name, count in self._uses.left().items()}
            self._ledger.used(left, round(self._uses.gap, 3))

    async def keep_writing(self) -> None:
        """Write down what is new, for ever."""
        while True:
            await asyncio.sleep(WRITE_S)
            self.write()
