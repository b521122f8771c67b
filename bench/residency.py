"""Seconds spent loading models on traces of requests: our policy, plain LRU, and the least possible.

    python -m bench.residency [--seeds FIRST LAST] [--answers SECONDS] [--knowing] [--holding SECONDS ...] [--json FILE]

`bench/traces.py` says what the traces are. Those that are reported have seeds 1 to 10; a policy is chosen on others.

In the core: the daemon's own core decides all, in virtual time (`bench/virtual_time.py`). Loads take their time, one
after the other; requests wait for them, those of one model together; a model that answers is busy (`--answers`: for so
many seconds in the mean). LRU is the same core with other victims: whoever was not used for the longest time.

At once: each request for an absent model is served by a load that takes no time, before the next one comes. For this
the least possible can be found exactly: a search over all sets of resident models, request by request, by somebody who
knows the future. `--knowing` adds somebody who knows all of the future but chance: how popular each model is at any
time, to the digit, and what then is best in the long run. In the core it adds the same (`bench/clairvoyant.py`), and
somebody who knows the future; no least is known there, but one that can be no more: that of loads that take no time and
requests that wait for so many seconds for each other.

Ratios are of sums over traces, with what 95 of 100 samples of as many traces, drawn from these, have (bootstrap).
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ingled.core.eviction import LEAST_S, CheapestBack, cost
from ingled.core.placement import (
    Absent,
    Device,
    Evict,
    Fits,
    Outlook,
    Policy,
    Resident,
    Sharing,
    Terms,
    Uses,
    Wait,
    held,
)

from bench.clairvoyant import Clairvoyant, KnowsFuture, KnowsPopularities
from bench.foresight import knowing, least
from bench.spread import percentile
from bench.table import markdown
from bench.traces import Trace, record
from bench.virtual_time import Asked, Told, World

ANSWER_S = 5.0
SAMPLES = 10_000
WAITS_S = (20.0, 60.0, 150.0)
"""Waits of which the least is told."""


class LeastRecentlyUsed(Sharing):
    """Plain LRU: whoever was not used for the longest time goes, until there is room."""

    def victims(self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook) -> list[Resident]:
        """Choose by idle time alone."""
        gone = []
        for one in sorted((one for one in there if not held(one)), key=lambda one: one.idle, reverse=True):
            if excess > 0:
                gone.append(one)
                excess -= one.terms.need
        return gone


class Holding(CheapestBack):
    """Ours, but who is worth less than those that would go waits, so that more come meanwhile who want the same."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: so long at most."""
        self.seconds = seconds

    def victims(
        self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook
    ) -> Sequence[Resident] | Wait:
        """Choose as ours does, later."""
        found, left = super().victims(terms, there, excess, outlook), self.seconds - outlook.waited
        if isinstance(found, Wait) or left < LEAST_S:
            return found
        own = cost(Resident("", terms, rate=outlook.rate))
        return Wait("others are worth more", left) if sum(map(cost, found)) > own else found


def in_the_core(trace: Trace, policy: Policy, seed: int, answers: float = ANSWER_S) -> Told:
    """Return what comes of a trace in the daemon's own core under a policy."""
    chance = random.Random(f"answers {seed}")
    lengths = (chance.expovariate(1 / answers) if answers else 0.0 for _ in trace.requests)
    requests = [Asked(at, name, seconds) for (at, name), seconds in zip(trace.requests, lengths, strict=True)]
    world = World(trace.models, trace.budget, policy)
    if isinstance(policy, Clairvoyant):
        policy.world = world
    return world.replay(requests)


def at_once(trace: Trace, policy: Policy) -> float:
    """Return seconds of loading under a policy, if loads took no time."""
    models, device, used_at, seconds = trace.models, Device("gpu", trace.budget), dict[str, float](), 0.0
    uses = {name: Uses() for name in models}
    for now, name in trace.requests:
        uses[name].add(now)
        if name not in used_at:
            residents = [
                Resident(one, models[one], idle=now - at, age=now, rate=uses[one].rate(now))
                for one, at in used_at.items()
            ]
            away = [one for one in models if one != name and one not in used_at]
            rates = {one: uses[one].rate(now) for one in models}
            outlook = Outlook(rate=rates[name], absent=tuple(Absent(models[one], rates[one]) for one in away))
            decision = policy.decide(name, models[name], residents, device, outlook)
            assert isinstance(decision, Fits | Evict), decision
            if isinstance(decision, Evict):
                for victim in decision.models:
                    del used_at[victim]
            seconds += models[name].reload_s
        used_at[name] = now
        assert sum(models[one].need for one in used_at) <= trace.budget
    return seconds


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


def main(argv: list[str] | None = None, out: Callable[[str], None] = print) -> dict[str, float]:
    """Print the tables and return their figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write the figures here too")
    options.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FIRST", "LAST"))
    options.add_argument("--answers", type=float, default=ANSWER_S, metavar="SECONDS", help="mean length of an answer")
    options.add_argument("--knowing", action="store_true", help="also those who know what no policy can know")
    options.add_argument("--holding", type=float, nargs="+", default=[], metavar="SECONDS", help="also ours that holds")
    args = options.parse_args(argv)
    seeds = range(args.seeds[0], args.seeds[1] + 1)
    traces = [record(seed) for seed in seeds]
    policies: dict[str, Callable[[Trace], Policy]] = {
        "LRU": lambda _: LeastRecentlyUsed(),
        "ours": lambda _: CheapestBack(),
        **({"knows popularities": KnowsPopularities, "knows the future": KnowsFuture} if args.knowing else {}),
        **{f"holds {seconds:g} s": partial(_holding, seconds) for seconds in args.holding},
    }
    told = {
        name: [in_the_core(trace, one(trace), seed, args.answers) for seed, trace in zip(seeds, traces, strict=True)]
        for name, one in policies.items()
    }
    core = {name: [one.loading_s for one in some] for name, some in told.items()}
    out(f"In the core, answers of {args.answers:g} s in the mean; a wait is from a request's coming until it runs.\n")
    out(_rows([str(seed) for seed in seeds], core))
    out("")
    out(_waits(told))
    rows: dict[str, Callable[[Trace], float]] = {
        "LRU": lambda trace: at_once(trace, LeastRecentlyUsed()),
        "ours": lambda trace: at_once(trace, CheapestBack()),
        **({"knowing": knowing} if args.knowing else {}),
        "least": least,
        **({f"least, {wait:g} s": partial(least, wait=wait) for wait in WAITS_S} if args.knowing else {}),
    }
    instant = {name: [seconds(trace) for trace in traces] for name, seconds in rows.items()}
    out("\nAt once.\n")
    out(_rows([str(seed) for seed in seeds], instant))
    ratios = {
        "to_lru": ratio(core["ours"], core["LRU"]),
        "at_once_to_lru": ratio(instant["ours"], instant["LRU"]),
        "at_once_to_least": ratio(instant["ours"], instant["least"]),
    }
    out("")
    for name, one in ratios.items():
        out(f"{name}: {one}")
    figures = {f"{_key(name)}_s": round(sum(some), 1) for name, some in core.items()}
    figures |= {f"{_key(name)}_{key}": round(one, 1) for name, some in told.items() for key, one in _wait(some).items()}
    figures |= {f"at_once_{_key(name)}_s": round(sum(some), 1) for name, some in instant.items()}
    for name, one in ratios.items():
        figures |= {name: one.all, f"{name}_low": one.low, f"{name}_high": one.high}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _holding(seconds: float, _: Trace) -> Policy:
    return Holding(seconds)


def _rows(names: Sequence[str], columns: dict[str, list[float]]) -> str:
    head = ["trace", *(f"{name}, s" for name in columns), *(f"{name}/LRU" for name in columns if name != "LRU")]
    rows = []
    for at, name in [*enumerate(names), (None, "all")]:
        row = {column: sum(some) if at is None else some[at] for column, some in columns.items()}
        parts = [f"{one / row['LRU']:.3f}" for column, one in row.items() if column != "LRU"]
        rows.append([name, *(f"{one:.0f}" for one in row.values()), *parts])
    return markdown(head, rows)


def _key(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def _wait(told: Sequence[Told]) -> dict[str, float]:
    waits = [wait for one in told for wait in one.waits]
    percentiles = {f"wait_p{of:g}": percentile(waits, of / 100) or 0.0 for of in (50, 95, 99)}
    return {"wait_mean": sum(waits) / len(waits), **percentiles, "wait_longest": max(waits)}


def _waits(told: dict[str, list[Told]]) -> str:
    rows = []
    for name, some in told.items():
        loads = sum(sum(one.loads.values()) for one in some)
        rows.append([name, str(loads), *(f"{one:.1f}" for one in _wait(some).values())])
    return markdown(["", "loads", "mean wait, s", "median", "95th percentile", "99th", "longest"], rows)


if __name__ == "__main__":
    main()
