"""The largest batch: how long its prompts are, and how far it is. Pure."""

import time
from collections.abc import Callable

ANSWER = 8
"""Tokens of each answer: the first one still runs when the last prompt has been computed."""


class Pace:
    """How far something is of which it is known how long it will take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began, self._seconds = clock, 0.0, 0.0

    def expect(self, seconds: float) -> None:
        """It begins now, and will take so long."""
        self._began, self._seconds = self._clock(), seconds

    def percent(self) -> int:
        """Return the percent that is done; 0 before it has begun, and never more than 99."""
        if not self._seconds:
            return 0
        return min(99, int(100 * (self._clock() - self._began) / self._seconds))


def sizes(sequences: int, batch: int, context: int, cached: int, block: int) -> list[int]:
    """Return the tokens of as many prompts as may run at once, together a little over two steps of `batch` tokens.

    One of them is cut between the steps, where it can be: that takes more than whole ones do. They fit into a KV cache
    for `cached` tokens, in blocks of `block`; 0: there is none. Empty where not even one fits into the context.
    """
    most = context - ANSWER
    if cached:
        blocks = cached // block - 1  # vLLM keeps one for itself
        sequences = min(sequences, max(1, blocks))
        most = min(most, blocks // sequences * block - ANSWER)
    size = min(most, 2 * batch // sequences + 1)
    if size > 1 and batch % size == 0:
        size -= 1
    return [size] * sequences if size > 0 else []
