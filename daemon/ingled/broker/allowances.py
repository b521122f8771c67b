"""What accounts have used of their limits outlives the daemon: it is written down while they use it."""

import asyncio
import time

from ingled.broker.ledger import Ledger
from ingled.core.quota import Quotas

WRITE_S = 1.0
"""Between two writes: so much use is forgotten at most, should the daemon be killed."""


class Allowances:
    """Between the limits in the core and the ledger."""

    def __init__(self, quotas: Quotas, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        """Go on with what was written down."""
        self._quotas, self._ledger, self._loop = quotas, ledger, loop
        limits = ledger.limits
        quotas.restore(loop.time(), limits.left, max(0.0, time.time() - limits.at))
        self._written = quotas.payments

    def write(self) -> None:
        """Write down what is new."""
        if self._quotas.payments != self._written:
            self._written = self._quotas.payments
            self._ledger.spent(self._quotas.kept(self._loop.time()))

    async def keep_writing(self) -> None:
        """Write down what is new, for ever."""
        while True:
            await asyncio.sleep(WRITE_S)
            self.write()
