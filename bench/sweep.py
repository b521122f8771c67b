"""A grid of settings of traces: where our policy loads less than LRU, by how much, and where it does not.

The grid was fixed before any policy was run on it, and all of it is reported.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ingled.core.eviction import CheapestBack

from bench.clairvoyant import KnowsPopularities, ToldPopularities
from bench.foresight import least
from bench.ratio import ratio
from bench.replay import LeastRecentlyUsed, at_once, in_the_core
from bench.spread import percentile
from bench.table import markdown
from bench.traces import HARD, PLAIN, Setting, made

EXPONENTS = (0.6, 0.8, 1.0, 1.2, 1.5)
MODELS = (6, 10, 20, 40)
SHARES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))
EVERY_SET = 10
"""With more models, sets of them are too many for those who compare all."""
PROCESSES = 2


def grid() -> Iterator[tuple[str, Setting]]:
    """Yield the settings, and to which table each belongs."""
    for bursts, changes in ((False, False), (True, False), (False, True), (True, True)):
        for exponent in EXPONENTS:
            yield "How requests come", replace(PLAIN, exponent=exponent, bursts=bursts, changes=changes)
    for models in MODELS:
        for share in SHARES:
            for equal, proportional in ((False, False), (False, True), (True, False), (True, True)):
                setting = replace(PLAIN, models=models, share=share, equal=equal, proportional=proportional)
                yield "Models and memory, plain", setting
    for models in MODELS:
        for share in SHARES:
            setting = replace(HARD, exponent=PLAIN.exponent, models=models, share=share)
            yield "Models and memory, with bursts and changing favourites", setting


def words(setting: Setting) -> str:
    """Return what a setting is, in a row of a table."""
    coming = [word for word, is_so in (("bursts", setting.bursts), ("changes", setting.changes)) if is_so]
    sizes, loads = "equal" if setting.equal else "mixed", "by size" if setting.proportional else "size and more"
    share = {PLAIN.share: "32 GiB"}.get(setting.share, str(setting.share))
    return f"{setting.exponent:g}, {' and '.join(coming) or 'plain'}; {setting.models} of {share}; {sizes}, {loads}"


@dataclass(frozen=True)
class Point:
    """What a setting gave, in seconds, for each trace."""

    loading: dict[str, list[float]]
    waits: dict[str, list[float]]
    """Of all requests of all traces."""
    at_once: list[float]
    """Ours, if loads took no time."""
    least: list[float]
    """Empty where it cannot be found."""


def point(seeds: Sequence[int], setting: Setting) -> Point:
    """Replay the traces of a setting."""
    traces = [made(seed, setting) for seed in seeds]
    few = setting.models <= EVERY_SET
    told = {
        "LRU": [in_the_core(trace, LeastRecentlyUsed()) for trace in traces],
        "ours": [in_the_core(trace, CheapestBack()) for trace in traces],
        "told": [in_the_core(trace, ToldPopularities(trace)) for trace in traces],
        "knows": [in_the_core(trace, KnowsPopularities(trace)) for trace in traces if few],
    }
    return Point(
        {name: [one.loading_s for one in some] for name, some in told.items()},
        {name: [wait for one in some for wait in one.waits] for name, some in told.items()},
        [at_once(trace, CheapestBack()) for trace in traces if few],
        [least(trace) for trace in traces if few],
    )


def swept(seeds: Sequence[int], out: Callable[[str], None], file: Path | None = None) -> dict[str, float]:
    """Print the tables, and return ours of LRU's at each point.

    `file`: has the points that have been run, and is written after each: what it has of these seeds is not run again.
    """
    rows: dict[str, list[str]] = {}
    if file and file.exists() and (before := json.loads(file.read_text()))["seeds"] == list(seeds):
        rows = before["points"]
    settings = {words(setting): setting for _, setting in grid()}
    with ProcessPoolExecutor(PROCESSES) as pool:
        running = {pool.submit(point, seeds, setting): name for name, setting in settings.items() if name not in rows}
        for one in as_completed(running):
            rows[running[one]] = row = _row(one.result())
            print(" | ".join([running[one], *row]), file=sys.stderr, flush=True)  # some take a minute
            if file:
                points = {name: rows[name] for name in settings if name in rows}
                file.write_text(json.dumps({"seeds": list(seeds), "points": points}, indent=1) + "\n")
    tables: dict[str, list[list[str]]] = {}
    for table, setting in grid():
        tables.setdefault(table, []).append([words(setting), *rows[words(setting)]])
    for table, some in tables.items():
        out(f"{table}\n")
        out(markdown(HEAD, some))
        out("")
    return {name: float(row[1].split()[0]) for name, row in rows.items()}


HEAD = ["", "LRU, s", "ours/LRU", "told/LRU", "knows/LRU", "at once, ours/least", "waits of LRU, s", "ours"]


def _row(found: Point) -> list[str]:
    lru = found.loading["LRU"]
    others = [ratio(found.loading[who], lru) if found.loading[who] else None for who in ("told", "knows")]
    optimum = ratio(found.at_once, found.least) if found.least else None
    row = [f"{sum(lru):.0f}", str(ratio(found.loading["ours"], lru))]
    row += [f"{one.all:.3f}" if one else "-" for one in (*others, optimum)]
    return row + [_waits(found.waits[who]) for who in ("LRU", "ours")]


def _waits(waits: Sequence[float]) -> str:
    """Return the mean and the 95th percentile."""
    return f"{sum(waits) / len(waits):.1f}, {percentile(waits, 0.95):.0f}"
