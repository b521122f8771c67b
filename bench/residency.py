"""Seconds spent loading models on traces of requests: our policy, plain LRU, and the least possible.

    python -m bench.residency [--hard | --plain | --sweep] [--seeds FIRST LAST] [--knowing] [--holding SECONDS ...]
                              [--json FILE]

`bench/traces.py` says what the traces are. Without an option it is the recorded one; `--plain` makes more of its kind,
`--hard` those with bursts and changing favourites, and `--sweep` those of a grid of settings (`bench/sweep.py`). What
is reported has seeds 1 to 10; a policy is chosen on others.

In the core: the daemon's own core decides all, in virtual time (`bench/virtual_time.py`). Loads take their time, one
after the other; requests wait for them, those of one model together; a model that answers is busy. LRU is the same core
with other victims: whoever was not used for the longest time.

At once: each request for an absent model is served by a load that takes no time, before the next one comes. For this
the least possible can be found exactly: a search over all sets of resident models, request by request, by somebody who
knows the future. `--knowing` adds somebody who knows all of the future but chance: how popular each model is at any
time, to the digit, and what then is best in the long run. In the core it adds the same (`bench/clairvoyant.py`), ours
that is told the popularities, and somebody who knows the future; no least is known there, but one that can be no more:
that of loads that take no time and requests that wait for so many seconds for each other.

Ratios are of sums over traces, with what 95 of 100 samples of as many traces, drawn from these, have (bootstrap).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ingled.core.eviction import CheapestBack
from ingled.core.placement import Policy

from bench import sweep
from bench.clairvoyant import KnowsFuture, KnowsPopularities, ToldPopularities
from bench.foresight import knowing, least
from bench.ratio import ratio
from bench.replay import Holding, LeastRecentlyUsed, at_once, in_the_core
from bench.spread import percentile
from bench.table import markdown
from bench.traces import HARD, PLAIN, RECORDED, Trace, made, read
from bench.virtual_time import Told

WAITS_S = (20.0, 60.0, 150.0)
"""Waits of which the least is told."""


def main(argv: list[str] | None = None, out: Callable[[str], None] = print) -> dict[str, float]:
    """Print the tables and return their figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = options.add_mutually_exclusive_group()
    which.add_argument("--hard", action="store_true", help="traces with bursts and changing favourites")
    which.add_argument("--plain", action="store_true", help="traces like the recorded one")
    which.add_argument("--sweep", action="store_true", help="traces of a grid of settings")
    options.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FIRST", "LAST"))
    options.add_argument("--knowing", action="store_true", help="also those who know what no policy can know")
    options.add_argument("--holding", type=float, nargs="+", default=[], metavar="SECONDS", help="also ours that holds")
    options.add_argument("--json", type=Path, help="write the figures here too; a sweep goes on from those it has")
    args = options.parse_args(argv)
    seeds = range(args.seeds[0], args.seeds[1] + 1)
    if args.sweep:
        return sweep.swept(seeds, out, args.json)
    if args.hard or args.plain:
        setting = HARD if args.hard else PLAIN
        traces = {str(seed): made(seed, setting) for seed in seeds}
        figures = compared(traces, out, knowing_too=args.knowing, holding=args.holding)
    else:
        traces = {"recorded": read(RECORDED.read_text())}
        figures = compared(traces, out, knowing_too=args.knowing, holding=args.holding)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def compared(
    traces: dict[str, Trace], out: Callable[[str], None], *, knowing_too: bool = False, holding: Sequence[float] = ()
) -> dict[str, float]:
    """Print what each policy loads on these, in the core and at once, and return the figures."""
    policies: dict[str, Callable[[Trace], Policy]] = {
        "LRU": lambda _: LeastRecentlyUsed(),
        "ours": lambda _: CheapestBack(),
    }
    if knowing_too:
        policies["told popularities"] = ToldPopularities
        policies |= {"knows popularities": KnowsPopularities, "knows the future": KnowsFuture}
    policies |= {f"holds {seconds:g} s": partial(_holding, seconds) for seconds in holding}
    told = {name: [in_the_core(trace, one(trace)) for trace in traces.values()] for name, one in policies.items()}
    core = {name: [one.loading_s for one in some] for name, some in told.items()}
    out("In the core; a wait is from a request's coming until it runs.\n")
    out(_rows(list(traces), core))
    out("")
    out(_waits(told))
    rows: dict[str, Callable[[Trace], float]] = {
        "LRU": lambda trace: at_once(trace, LeastRecentlyUsed()),
        "ours": lambda trace: at_once(trace, CheapestBack()),
        **({"knowing": knowing} if knowing_too else {}),
        "least": least,
        **({f"least, {wait:g} s": partial(least, wait=wait) for wait in WAITS_S} if knowing_too else {}),
    }
    instant = {name: [seconds(trace) for trace in traces.values()] for name, seconds in rows.items()}
    out("\nAt once.\n")
    out(_rows(list(traces), instant))
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
