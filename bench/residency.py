"""Seconds spent loading models on traces of requests: our policy, plain LRU, and the least possible.

    python -m bench.residency [--seeds FIRST LAST] [--answers SECONDS] [--knowing] [--json FILE]

`bench/traces.py` says what the traces are. Those that are reported have seeds 1 to 10; a policy is chosen on others.

In the core: the daemon's own core decides all, in virtual time (`bench/virtual_time.py`). Loads take their time, one
after the other; requests wait for them, those of one model together; a model that answers is busy (`--answers`: for so
many seconds in the mean). LRU is the same core with other victims: whoever was not used for the longest time.

At once: each request for an absent model is served by a load that takes no time, before the next one comes. For this
the least possible can be found exactly: a search over all sets of resident models, request by request, by somebody who
knows the future. `--knowing` adds somebody who knows all of the future but chance: how popular each model is at any
time, to the digit, and what then is best in the long run. Of requests that may wait for each other no least is known:
whoever lets them wait for long enough needs one load for each model.

Ratios are of sums over traces, with what 95 of 100 samples of as many traces, drawn from these, have (bootstrap).
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingled.core.eviction import CheapestBack
from ingled.core.placement import Absent, Device, Evict, Fits, Outlook, Policy, Resident, Sharing, Terms, Uses, held

from bench.foresight import knowing, least
from bench.spread import percentile
from bench.table import markdown
from bench.traces import Trace, record
from bench.virtual_time import Asked, Told, World

ANSWER_S = 5.0
SAMPLES = 10_000


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


def in_the_core(trace: Trace, policy: Policy, seed: int, answers: float = ANSWER_S) -> Told:
    """Return what comes of a trace in the daemon's own core under a policy."""
    chance = random.Random(f"answers {seed}")
    lengths = (chance.expovariate(1 / answers) if answers else 0.0 for _ in trace.requests)
    requests = [Asked(at, name, seconds) for (at, name), seconds in zip(trace.requests, lengths, strict=True)]
    return World(trace.models, trace.budget, policy).replay(requests)


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
    options.add_argument("--knowing", action="store_true", help="also somebody who knows how popular models are")
    args = options.parse_args(argv)
    seeds = range(args.seeds[0], args.seeds[1] + 1)
    traces = [record(seed) for seed in seeds]
    told = {
        name: [in_the_core(trace, policy, seed, args.answers) for seed, trace in zip(seeds, traces, strict=True)]
        for name, policy in (("LRU", LeastRecentlyUsed()), ("ours", CheapestBack()))
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
    figures = {f"{name.lower()}_s": round(sum(some), 1) for name, some in core.items()}
    figures |= {f"at_once_{name.lower()}_s": round(sum(some), 1) for name, some in instant.items()}
    for name, one in ratios.items():
        figures |= {name: one.all, f"{name}_low": one.low, f"{name}_high": one.high}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _rows(names: Sequence[str], columns: dict[str, list[float]]) -> str:
    head = ["trace", *(f"{name}, s" for name in columns), *(f"{name}/LRU" for name in columns if name != "LRU")]
    rows = []
    for at, name in [*enumerate(names), (None, "all")]:
        row = {column: sum(some) if at is None else some[at] for column, some in columns.items()}
        parts = [f"{one / row['LRU']:.3f}" for column, one in row.items() if column != "LRU"]
        rows.append([name, *(f"{one:.0f}" for one in row.values()), *parts])
    return markdown(head, rows)


def _waits(told: dict[str, list[Told]]) -> str:
    rows = []
    for name, some in told.items():
        waits = [wait for one in some for wait in one.waits]
        loads = sum(sum(one.loads.values()) for one in some)
        late = percentile(waits, 0.99) or 0.0
        figures = (sum(waits) / len(waits), late, max(waits))
        rows.append([name, str(loads), *(f"{one:.1f}" for one in figures)])
    return markdown(["", "loads", "mean wait, s", "99th percentile", "longest"], rows)


if __name__ == "__main__":
    main()
