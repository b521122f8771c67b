"""Seconds spent reloading models on traces of requests: our policy, plain LRU, and the least possible.

    python -m bench.residency [--seeds FIRST LAST] [--knowing] [--json FILE]

Each trace has ten models of 1 to 24 GiB on a device with 32 GiB. A load takes as long as its bytes from a slow disk, a
fast one or the page cache, and 2, 10 or 30 s for what the engine does beside (graphs, compilation). Which model is
asked for follows Zipf's law with exponent 1.1, in bursts, as people do, and twice other models become the popular ones.
The traces that are reported come from seeds 1 to 10; a policy is chosen on others. The least possible is exact: a
search over all sets of resident models, request by request, by somebody who knows the future. `--knowing` adds somebody
who knows all of the future but chance: how popular each model is at any time, to the digit, and what then is best in
the long run. No policy that has to learn this from requests can be expected to do better.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from ingled.core.placement import CheapestBack, Device, Evict, Fits, Policy, Resident, Terms, Uses

REQUESTS, EXPONENT, PAUSE_S = 3000, 1.1, 20.0
BUDGET_GIB = 32
GIB = 1 << 30

Held = frozenset[str]


@dataclass(frozen=True)
class Trace:
    """Models, bytes for them, and who is asked when."""

    models: dict[str, Terms]
    budget: int
    requests: list[tuple[float, str]]
    odds: list[dict[str, float]]
    """For each request: how popular models are by then."""


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


def replay(trace: Trace, policy: Policy) -> tuple[float, int]:
    """Return seconds of reloading and loads under a policy."""
    models, budget, requests = trace.models, trace.budget, trace.requests
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


class Rooms:
    """Which sets of models can be held together, and what can be kept when another one comes."""

    def __init__(self, needs: dict[str, int], budget: int) -> None:
        """Find all sets of models with these needs."""
        some = (frozenset(some) for count in range(len(needs) + 1) for some in combinations(needs, count))
        self.fitting = [one for one in some if sum(needs[name] for name in one) <= budget]
        self._after: dict[tuple[Held, str], list[Held]] = {}

    def after(self, held: Held, name: str) -> list[Held]:
        """Return the largest sets that can be held beside a model that comes."""
        found = self._after.get((held, name))
        if found is None:
            allowed = [one for one in self.fitting if name in one and one - {name} <= held]
            found = self._after[held, name] = [one for one in allowed if not any(one < other for other in allowed)]
        return found


@cache
def rooms(needs: tuple[tuple[str, int], ...], budget: int) -> Rooms:
    """Return those of models with these needs: the same for all traces."""
    return Rooms(dict(needs), budget)


def rooms_of(trace: Trace) -> Rooms:
    """Return those of a trace."""
    return rooms(tuple((name, terms.need) for name, terms in trace.models.items()), trace.budget)


def knowing(trace: Trace) -> float:
    """Return the seconds of reloading of somebody who knows how popular models are, and does what then is best."""
    room, held, seconds = rooms_of(trace), Held(), 0.0
    ahead: dict[Held, float] = {}
    odds: dict[str, float] = {}
    for (_, name), now_odds in zip(trace.requests, trace.odds, strict=True):
        if now_odds is not odds:
            odds, ahead = now_odds, _ahead(trace, room, now_odds)
        if name not in held:
            held = min(room.after(held, name), key=ahead.__getitem__)
            seconds += trace.models[name].reload_s
    return seconds


def _ahead(trace: Trace, room: Rooms, odds: dict[str, float]) -> dict[Held, float]:
    """Return how many more seconds of loading are to be expected from each set on than from an empty one."""
    import numpy

    whole, index = sum(odds.values()), {one: at for at, one in enumerate(room.fitting)}
    missing = [(one, name, odds[name] / whole) for one in room.fitting for name in odds if name not in one]
    nexts = [[index[other] for other in room.after(one, name)] for one, name, _ in missing]
    most = max(map(len, nexts))
    choices = numpy.array([some + some[:1] * (most - len(some)) for some in nexts])
    at, chance = numpy.array([index[one] for one, _, _ in missing]), numpy.array([one[2] for one in missing])
    paid = chance * numpy.array([trace.models[name].reload_s for _, name, _ in missing])
    stays = 1 - numpy.bincount(at, chance, len(index))
    values: Any = numpy.zeros(len(index))
    while True:
        costs = paid + chance * values[choices].min(axis=1)
        found = numpy.bincount(at, costs, len(index)) + stays * values
        found -= found[0]
        if numpy.abs(found - values).max() < 1e-4:
            return dict(zip(room.fitting, found.tolist(), strict=True))
        values = found


def least(trace: Trace) -> float:
    """Return the fewest seconds of reloading with which the trace can be served, by somebody who knows it."""
    models, room = trace.models, rooms_of(trace)
    costs = {Held(): 0.0}
    for _, name in trace.requests:
        new: dict[Held, float] = {}
        for held, cost in costs.items():
            nexts = [held] if name in held else room.after(held, name)
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
    options.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FIRST", "LAST"))
    options.add_argument("--knowing", action="store_true", help="also somebody who knows how popular models are")
    args = options.parse_args(argv)
    rows: dict[str, Callable[[Trace], float]] = {
        "lru": lambda trace: replay(trace, LeastRecentlyUsed())[0],
        "ours": lambda trace: replay(trace, CheapestBack())[0],
        **({"knowing": knowing} if args.knowing else {}),
        "least": least,
    }
    out(f"| trace | {' | '.join(f'{name}, s' for name in rows)} | {' | '.join(f'{name}/lru' for name in rows)} |")
    out("|---" * (1 + 2 * len(rows)) + "|")
    whole = dict.fromkeys(rows, 0.0)
    for seed in range(args.seeds[0], args.seeds[1] + 1):
        trace = record(seed)
        row = {name: seconds(trace) for name, seconds in rows.items()}
        whole = {name: whole[name] + row[name] for name in rows}
        out(_row(str(seed), row))
    out(_row("all", whole))
    figures = {f"{name}_s": round(seconds, 1) for name, seconds in whole.items()}
    figures |= {"to_lru": whole["ours"] / whole["lru"], "to_least": whole["ours"] / whole["least"]}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _row(name: str, seconds: dict[str, float]) -> str:
    parts = (f"{one / seconds['lru']:.3f}" for one in seconds.values())
    return f"| {name} | {' | '.join(f'{one:.0f}' for one in seconds.values())} | {' | '.join(parts)} |"


if __name__ == "__main__":
    main()
