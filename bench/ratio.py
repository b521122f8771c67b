"""Ratios of sums over traces, and how certain they are. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.spread import percentile

SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """One sum over another, over traces."""

    all: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.all:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(some: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the ratio of the sums, and between what it lies for 95 of 100 samples of as many traces."""
    chance, pairs = random.Random(0), list(zip(some, others, strict=True))
    samples = (chance.choices(pairs, k=len(pairs)) for _ in range(SAMPLES))
    found = [sum(a for a, _ in one) / sum(b for _, b in one) for one in samples]
    low, high = percentile(found, 0.025), percentile(found, 0.975)
    return Ratio(sum(some) / sum(others), low or 0.0, high or 0.0)
