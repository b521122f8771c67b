"""Traces of requests for many models: who is asked when, made from a seed.

Each has ten models of 1 to 24 GiB on a device with 32 GiB. A load takes as long as its bytes from a slow disk, a fast
one or the page cache, and 2, 10 or 30 s for what the engine does beside (graphs, compilation). Which model is asked for
follows Zipf's law with exponent 1.1, in bursts, as people do, and twice other models become the popular ones.
"""

import random
from dataclasses import dataclass

from ingled.core.placement import Terms

REQUESTS, EXPONENT, PAUSE_S = 3000, 1.1, 20.0
BUDGET_GIB = 32
GIB = 1 << 30


@dataclass(frozen=True)
class Trace:
    """Models, bytes for them, and who is asked when."""

    models: dict[str, Terms]
    budget: int
    requests: list[tuple[float, str]]
    odds: list[dict[str, float]]
    """For each request: how popular models are by then."""


def record(seed: int) -> Trace:
    """Return models, budget and requests."""
    chance = random.Random(seed)
    models = {}
    for i, size in enumerate((1, 2, 3, 4, 6, 8, 8, 12, 16, 24)):
        seconds = size / chance.choice((0.5, 2, 8)) + chance.choice((2, 10, 30))
        models[f"m{i}"] = Terms(need=size * GIB, reload_s=round(seconds, 1))
    names, now = list(models), 0.0
    requests: list[tuple[float, str]] = []
    odds: list[dict[str, float]] = []
    now_odds: dict[str, float] = {}
    weights = [1 / (rank + 1) ** EXPONENT for rank in range(len(names))]
    while len(requests) < REQUESTS:
        if len(requests) % (REQUESTS // 3) == 0:
            chance.shuffle(names)
            now_odds = dict(zip(names, weights, strict=True))
        name = chance.choices(names, weights)[0]
        for _ in range(min(chance.randrange(1, 6), REQUESTS - len(requests))):
            now += chance.expovariate(1 / PAUSE_S)
            requests.append((now, name))
            odds.append(now_odds)
    return Trace(models, BUDGET_GIB * GIB, requests, odds)
