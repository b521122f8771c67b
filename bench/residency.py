"""Seconds spent reloading models on traces of requests: our policy, plain LRU, and the least possible.

    python -m bench.residency [--json FILE]

Each trace has ten models of 1 to 24 GiB on a device with 32 GiB. A load takes as long as its bytes from a slow disk, a
fast one or the page cache, and 2, 10 or 30 s for what the engine does beside (graphs, compilation). Which model is
asked for follows Zipf's law with exponent 1.1, in bursts, as people do, and twice other models become the popular ones.
The traces come from seeds 1 to 10. The least possible is exact: a search over all sets of resident models, request by
request, by somebody who knows the future.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from ingled.core.placement import CheapestBack, Device, Evict, Fits, Policy, Resident, Terms, Uses

SEEDS = range(1, 11)
REQUESTS, EXPONENT, PAUSE_S = 3000, 1.1, 20.0
BUDGET_GIB = 32
GIB = 1 << 30

Trace = tuple[dict[str, Terms], int, list[tuple[float, str]]]


class LeastRecentlyUsed:
    """Plain LRU: whoever was not used for the longest time goes, until there is room."""

    def decide(self, name: str, terms: Terms, residents: Sequence[Resident], device: Device) -> Fits | Evict:
        """Evict by idle time alone."""
        assert device.budget is not None, "the trace has a budget"
        victims, used = [], sum(one.terms.need for one in residents)
        for one in sorted(residents, key=lambda one: one.idle, reverse=True):
            if used + terms.need <= device.budget:
                break
            victims.append(one.name)
            used -= one.terms.need
        return Evict(tuple(victims)) if victims else Fits()


def record(seed: int) -> Trace:
    """Return models, budget and requests."""
    chance = random.Random(seed)
    models = {}
    for i, size in enumerate((1, 2, 3, 4, 6, 8, 8, 12, 16, 24)):
        seconds = size / chance.choice((0.5, 2, 8)) + chance.choice((2, 10, 30))
        models[f"m{i}"] = Terms(need=size * GIB, reload_s=round(seconds, 1))
    names, now = list(models), 0.0
    requests: list[tuple[float, str]] = []
    weights = [1 / (rank + 1) ** EXPONENT for rank in range(len(names))]
    while len(requests) < REQUESTS:
        if len(requests) % (REQUESTS // 3) == 0:
            chance.shuffle(names)
        name = chance.choices(names, weights)[0]
        for _ in range(min(chance.randrange(1, 6), REQUESTS - len(requests))):
            now += chance.expovariate(1 / PAUSE_S)
            requests.append((now, name))
    return models, BUDGET_GIB * GIB, requests


def replay(trace: Trace, policy: Policy) -> tuple[float, int]:
    """Return seconds of reloading and loads under a policy."""
    models, budget, requests = trace
    device, used_at, seconds, loads = Device("gpu", budget), dict[str, float](), 0.0, 0
    uses = {name: Uses() for name in models}
    for now, name in requests:
        uses[name].add(now)
        if name not in used_at:
            residents = [
                Resident(one, models[one], idle=now - at, age=now, rate=uses[one].rate(now))
                for one, at in used_at.items()
            ]
            decision = policy.decide(name, models[name], residents, device)
            assert isinstance(decision, Fits | Evict), decision
            if isinstance(decision, Evict):
                for victim in decision.models:
                    del used_at[victim]
            seconds, loads = seconds + models[name].reload_s, loads + 1
        used_at[name] = now
        assert sum(models[one].need for one in used_at) <= budget
    return seconds, loads


def least(trace: Trace) -> float:
    """Return the fewest seconds of reloading with which the trace can be served, by somebody who knows it."""
    models, budget, requests = trace
    names = list(models)
    fitting = [
        frozenset(some)
        for count in range(len(names) + 1)
        for some in combinations(names, count)
        if sum(models[one].need for one in some) <= budget
    ]
    rooms: dict[tuple[frozenset[str], str], list[frozenset[str]]] = {}

    def after(held: frozenset[str], name: str) -> list[frozenset[str]]:
        """Return the largest sets that can be held beside a model that comes."""
        found = rooms.get((held, name))
        if found is None:
            allowed = [one for one in fitting if name in one and one - {name} <= held]
            found = rooms[held, name] = [one for one in allowed if not any(one < other for other in allowed)]
        return found

    costs: dict[frozenset[str], float] = {frozenset(): 0.0}
    for _, name in requests:
        new: dict[frozenset[str], float] = {}
        for held, cost in costs.items():
            nexts = [held] if name in held else after(held, name)
            paid = cost if name in held else cost + models[name].reload_s
            for one in nexts:
                if paid < new.get(one, float("inf")):
                    new[one] = paid
        best = min(new.values())
        whole = sum(model.reload_s for model in models.values())
        costs = {held: cost for held, cost in new.items() if cost <= best + whole}  # loading all is as good
    return min(costs.values())


def main(argv: list[str] | None = None, out: Callable[[str], None] = print) -> dict[str, float]:
    """Print the table and return its figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write the figures here too")
    options.add_argument("--quick", action="store_true", help="two traces")
    args = options.parse_args(argv)
    out("| trace | LRU, s | ours, s | least, s | of LRU's | of the least | least of LRU's |")
    out("|---|---|---|---|---|---|---|")
    whole = [0.0, 0.0, 0.0]
    for seed in SEEDS[:2] if args.quick else SEEDS:
        trace = record(seed)
        row = [replay(trace, LeastRecentlyUsed())[0], replay(trace, CheapestBack())[0], least(trace)]
        whole = [one + other for one, other in zip(whole, row, strict=True)]
        out(_row(str(seed), *row))
    out(_row("all", *whole))
    lru, ours, best = whole
    figures = {"lru_s": lru, "ours_s": ours, "least_s": best, "to_lru": ours / lru, "to_least": ours / best}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _row(name: str, lru: float, ours: float, best: float) -> str:
    seconds = f"{lru:.0f} | {ours:.0f} | {best:.0f}"
    return f"| {name} | {seconds} | {ours / lru:.2f} | {ours / best:.2f} | {best / lru:.2f} |"


if __name__ == "__main__":
    main()
