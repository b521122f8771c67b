"""Raw AsyncLLM, ingle, `vllm serve` with its front end in Python and in Rust, and llama-cpp-python's server where it is
installed: one table for each load, in one run.

    python -m bench.throughput                    the default loads, about twelve minutes on two cores
    python -m bench.throughput --quick            two loads, two short rounds
    python -m bench.throughput --concurrency 64 --prompts short long --answers streamed whole
    python -m bench.throughput --shape 8b --apart --concurrency 1 64 256     on a GPU, without a download

Every row runs the same model with the same options, and answers the same prompts greedily to 128 tokens. The rows take
turns: each round measures all of them for one load after the other, and each round begins with another row. What is
disturbed by other processes is measured again. What the columns mean, and what the figures were, is in
docs/performance.md.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.contenders import Contender
from bench.llama_cpp import LlamaCpp, agreement
from bench.load import Load, Outcome
from bench.record import Record, options
from bench.rows import BASES, CONTENDERS, DEFAULT_ROWS, TO_COME
from bench.shapes import SHAPES, TINY, make
from bench.spread import LIMIT, Figure, figure, ratio_text

DEFAULT = (
    (1, "short", True),
    (8, "short", True),
    (64, "short", True),
    (256, "short", True),
    (1, "long", True),
    (64, "long", True),
    (64, "short", False),
)
"""Concurrency, prompts, streamed."""
QUICK = ((1, "short", True), (64, "short", True))
REQUESTS = {1: 12, 8: 64, 64: 384, 256: 512}
DISTURBED = 0.25
"""Cores that something else kept busy, from which on a measurement is done again."""
TRIES = 5
PAUSE_S = 3.0
COLUMNS = (
    ("tokens/s", "tokens_s", 0),
    ("first ms p50", "first_p50_ms", 1),
    ("p99", "first_p99_ms", 1),
    ("between ms p50", "between_p50_ms", 2),
    ("p99", "between_p99_ms", 1),
    ("CPU s/1k: front", "front_cpu_s_per_1k", 3),
    ("core", "core_cpu_s_per_1k", 3),
    ("client", "client_cpu_s_per_1k", 3),
    ("RSS MB: front", "front_rss_mb", 0),
    ("core", "core_rss_mb", 0),
    ("PSS MB: all", "pss_mb", 0),
)
SUMMARY = (
    ("tokens/s", "tokens_s", 0, 1),
    ("first ms p50", "first_p50_ms", 1, 1),
    ("p99", "first_p99_ms", 1, 1),
    ("between ms p50", "between_p50_ms", 2, 1),
    ("p99", "between_p99_ms", 1, 1),
    ("front us/token", "front_cpu_s_per_1k", 1, 1000),
    ("core us/token", "core_cpu_s_per_1k", 1, 1000),
    ("client us/token", "client_cpu_s_per_1k", 1, 1000),
)
Results = dict[Load, dict[str, list[Outcome]]]
"""By load (of round 0) and row, one outcome a round."""


def requests(concurrency: int, prompt: str, quick: bool) -> int:
    """Return how many requests a measurement has: some seconds' worth, and a few for each that runs at a time."""
    number = REQUESTS.get(concurrency) or max(8, concurrency * 3)
    if prompt == "long":
        number = max(concurrency, number // 2)
    return max(concurrency, number // 2) if quick else number


def loads(args: argparse.Namespace) -> list[Load]:
    """Return what is to be measured."""
    chosen: Sequence[tuple[int, str, bool]] = QUICK if args.quick else DEFAULT
    if args.concurrency or args.prompts or args.answers:
        chosen = [
            (concurrency, prompt, answer == "streamed")
            for prompt in args.prompts or ["short"]
            for answer in args.answers or ["streamed"]
            for concurrency in args.concurrency or [1, 8, 64, 256]
        ]
    return [
        Load(concurrency, args.requests or requests(concurrency, prompt, args.quick), prompt, streamed, args.tokens)
        for concurrency, prompt, streamed in chosen
    ]


@contextlib.contextmanager
def running(rows: Sequence[Contender]) -> Iterator[None]:
    """Start servers one after the other, warm them, and end them all."""
    try:
        for row in rows:
            print(f"starting {row.name}", file=sys.stderr, flush=True)
            row.start()
            for concurrency in (8, 64):
                row.measure(Load(min(concurrency, row.most or concurrency), 64, tokens=16, round=999))
        yield
    finally:
        for row in rows:
            row.stop()


def measure(
    rows: Sequence[Contender],
    wanted: Sequence[Load],
    rounds: int,
    apart: bool,
    tries: int = TRIES,
    begun: Callable[[Sequence[Contender]], None] = lambda rows: None,
) -> Results:
    """Measure every load with every row that is for so many at a time, in rounds; `begun` is called when all run."""
    results: Results = {load: defaultdict(list) for load in wanted}

    def take(row: Contender, load: Load, number: int) -> None:
        if row.most is not None and load.concurrency > row.most:
            return
        outcome = undisturbed(row, Load(**(load.plain() | {"round": number})), tries)
        results[load][row.name].append(outcome)
        speed = outcome.tokens / outcome.seconds
        print(f"round {number + 1}: {load.title}: {row.name}: {speed:.0f} tokens/s", file=sys.stderr, flush=True)

    if apart:
        for number in range(rounds):
            for row in turned(rows, number):
                with running([row]):
                    for load in wanted:
                        take(row, load, number)
    else:
        with running(rows):
            begun(rows)
            for number in range(rounds):
                for load in wanted:
                    for row in turned(rows, number):
                        take(row, load, number)
    return results


def undisturbed(row: Contender, load: Load, tries: int = TRIES, pause_s: float = PAUSE_S) -> Outcome:
    """Measure, and again while other processes keep cores busy; returns the least disturbed of the tries.

    The result itself has no say in this, so that it favours nobody.
    """
    best: Outcome | None = None
    for number in range(tries):
        outcome = row.measure(Load(**(load.plain() | {"round": load.round + number * 100})))
        if best is None or outcome.others < best.others:
            best = outcome
        if best.others <= DISTURBED:
            break
        print(f"disturbed: {outcome.others:.2f} cores were busy with something else", file=sys.stderr, flush=True)
        time.sleep(pause_s)
    assert best is not None
    return best


def turned(rows: Sequence[Contender], number: int) -> list[Contender]:
    """Return the rows with another one first in each round."""
    at = number % len(rows)
    return [*rows[at:], *rows[:at]]


def figures(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Return each quantity over the rounds."""
    rounds = [outcome.figures() for outcome in outcomes]
    return {name: figure([one[name] for one in rounds]) for name in rounds[0]}


def tables(record: Record, load: Load, found: dict[str, dict[str, Figure]], limit: float) -> None:
    """Print the tables of one load."""
    bases = [CONTENDERS[key].name for key in BASES if CONTENDERS[key].name in found]
    head = ["", *(title for title, _, _ in COLUMNS)]
    lines = []
    for name, its in found.items():
        lines.append([name, *(its[key].text(digits) for _, key, digits in COLUMNS)])
    record.table(f"### {load.title}", head, lines)
    if not bases:
        return
    compared = [(title, key) for title, key in (("tokens/s", "tokens_s"), ("first p50", "first_p50_ms"))]
    head = ["", *(f"{title} / {base}" for base in bases for title, _ in compared)]
    lines = [
        [name, *(ratio_text(its[key], found[base][key], limit) for base in bases for _, key in compared)]
        for name, its in found.items()
    ]
    record.table(f"Ratios, where the middle half of the rounds is within {limit:.0%} on both sides:", head, lines)
    parts = [
        [f"{name}: {key.partition(':')[2]}", its[key].text(1)]
        for name, its in found.items()
        for key in its
        if key.startswith("cpu_us_per_token:")
    ]
    record.table("Where the servers' CPU goes:", ["", "us per token"], parts)
    others = figure([value for its in found.values() for value in its["other_cores"].values])
    record.say(f"Cores that were busy with something else meanwhile: {others.text(2)}.")


def summary(load: Load, found: dict[str, dict[str, Figure]]) -> list[list[str]]:
    """Return the lines of a load in the table of all loads: medians alone."""
    return [
        [load.title, name, *(its[key].short(digits, scale) for _, key, digits, scale in SUMMARY)]
        for name, its in found.items()
    ]


def check_prompts(load: Load, found: dict[str, dict[str, Figure]]) -> None:
    """Raise RuntimeError when the rows have not read the same prompts."""
    counted = {name: set(its["prompt_tokens"].values) for name, its in found.items() if its["prompt_tokens"].values}
    everything = {number for numbers in counted.values() for number in numbers}
    if any(numbers != everything for numbers in counted.values()):
        raise RuntimeError(f"{load.title}: the rows count other tokens in the same prompts: {counted}")


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = options(__doc__)
    parser.add_argument("--rows", nargs="+", choices=list(CONTENDERS), default=list(DEFAULT_ROWS))
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="the Python that has llama-cpp-python[server] and gguf")
    parser.add_argument("--concurrency", type=int, nargs="+")
    parser.add_argument("--prompts", nargs="+", choices=("short", "long"))
    parser.add_argument("--answers", nargs="+", choices=("streamed", "whole"))
    parser.add_argument("--requests", type=int, help="in each measurement; by default some seconds' worth")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tries", type=int, default=TRIES, help="most for a measurement that others disturb")
    parser.add_argument("--limit", type=float, default=LIMIT, help="widest spread for which a ratio is printed")
    parser.add_argument("--shape", choices=[TINY, *SHAPES], default=TINY)
    parser.add_argument("--apart", action="store_true", help="start each server anew in each round, alone")
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, help="the engine's mode, for all rows")
    parser.add_argument("--kv-gb", type=float, help="size of the KV cache")
    parser.add_argument("--show", type=Path, metavar="JSON", help="measure nothing: print the tables of a result")
    args = parser.parse_args()
    LlamaCpp.python = args.llama_cpp or LlamaCpp.python
    if args.show:
        kept = json.loads(args.show.read_text())
        record = Record("throughput", args.label, kept.pop("machine"), kept)
    else:
        record = Record("throughput" if args.shape == TINY else f"throughput-{args.shape}", args.label)
        record.data |= run(args)
    report(record, args.limit)
    if not args.show:
        print(record.write())
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns the figures as they are kept."""
    wanted = loads(args)
    with tempfile.TemporaryDirectory(prefix="igb-model-") as folder:
        kv_bytes = int(args.kv_gb * (1 << 30)) if args.kv_gb else None
        most = max(64, *(load.concurrency for load in wanted))
        model = make(args.shape, Path(folder), most, eager=args.eager, kv_bytes=kv_bytes)
        kinds = {CONTENDERS[key]: CONTENDERS[key].absent() for key in args.rows}
        rows = [kind(model) for kind, why in kinds.items() if not why]
        rounds = args.rounds or (2 if args.quick else 5)
        notes: list[str] = []
        results = measure(rows, wanted, rounds, args.apart, args.tries, lambda rows: notes.append(agreement(rows)))
    return {
        "model": args.shape,
        "absent": {kind.name: why for kind, why in kinds.items() if why} | TO_COME,
        "notes": [*filter(None, notes)],
        "options": model.options,
        "loads": [
            {"load": load.plain(), "rows": plain({name: figures(its) for name, its in outcomes.items()})}
            for load, outcomes in results.items()
        ],
    }


def report(record: Record, limit: float) -> None:
    """Print all tables of what was measured."""
    data = record.data
    record.begin(f"Throughput, model {data['model']}")
    record.say(f"Options of every row: {data['options']}. Figures are the median (smallest..largest) of the rounds.")
    for note in data.get("notes", ()):
        record.say(note)
    summaries: list[list[str]] = []
    for one in data["loads"]:
        load = Load(**one["load"])
        found = {name: {key: Figure(tuple(values)) for key, values in its.items()} for name, its in one["rows"].items()}
        check_prompts(load, found)
        tables(record, load, found, limit)
        summaries += summary(load, found)
    head = ["", "", *(title for title, _, _, _ in SUMMARY)]
    record.table("### All loads: medians", head, summaries)
    if absent := data.get("absent"):
        record.table("### Rows that are not here", ["", "why"], [[name, why] for name, why in absent.items()], texts=2)


def plain(found: dict[str, dict[str, Figure]]) -> dict[str, Any]:
    """Return figures for JSON: each quantity's values, one a round."""
    return {name: {key: list(one.values) for key, one in its.items()} for name, its in found.items()}


if __name__ == "__main__":
    sys.exit(main())
