"""Traces of requests for many models: who is asked when, and for how many seconds it answers.

    python -m bench.traces SEED > FILE

A device has less memory than its models need together, a load takes as long as its bytes from a slow disk, a fast one
or the page cache and 2, 10 or 30 s for what the engine does beside (graphs, compilation), and which model is asked for
follows Zipf's law. `Setting` says what else may be otherwise; `PLAIN` and `HARD` are those that are reported.

A trace is made from a seed (`made`), or read from a file (`read`). `RECORDED` is one such file, made once with seed 1:
it is the same for everybody, whatever a generator of random numbers does later. Its setting was chosen before any
policy was run on it, by what the words "a Zipf trace" say: requests that are independent of each other and of the time,
with exponent 1. Models, loads, memory and pace are those of the traces that were there before (`HARD`).
"""

import random
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ingled.core.placement import Terms

REQUESTS, PAUSE_S, ANSWER_S = 3000, 20.0, 5.0
GIB = 1 << 30
SIZES_GIB = (1, 2, 3, 4, 6, 8, 8, 12, 16, 24)
EQUAL_GIB = 8
DISK_GIB_S = (0.5, 2, 8)
BESIDE_S = (2, 10, 30)
RECORDED = Path(__file__).with_name("zipf.trace")


@dataclass(frozen=True)
class Setting:
    """What traces are like."""

    exponent: float = 1.0
    """Of Zipf's law: the n-th most popular model is asked for 1/n**exponent times as often as the first."""
    bursts: bool = False
    """Who is asked is asked up to five times in a row, as people do."""
    changes: bool = False
    """Twice, other models become the popular ones."""
    models: int = 10
    share: Fraction = Fraction(32, sum(SIZES_GIB))
    """Of what all models need together, so much is there; always enough for the largest."""
    equal: bool = False
    """All models are of one size."""
    proportional: bool = False
    """A load takes as long as its bytes from a fast disk, and no longer."""


PLAIN = Setting()
"""The recorded trace is one of these."""
HARD = Setting(exponent=1.1, bursts=True, changes=True)
"""Bursts are what LRU is good at, and changing favourites what must be learned anew."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: when it comes, for which model, and for how many seconds its answer is being made."""

    at: float
    model: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Trace:
    """Models, bytes for them, and who is asked when."""

    models: dict[str, Terms]
    budget: int
    requests: list[Asked]
    odds: list[dict[str, float]]
    """For each request: how popular models are by then."""


def made(seed: int, setting: Setting = PLAIN) -> Trace:
    """Return a trace of this setting."""
    chance, lengths = random.Random(seed), random.Random(f"answers {seed}")
    models = {}
    for i in range(setting.models):
        size = EQUAL_GIB if setting.equal else SIZES_GIB[i * len(SIZES_GIB) // setting.models]
        disk, beside = chance.choice(DISK_GIB_S), chance.choice(BESIDE_S)
        seconds = size / DISK_GIB_S[1] if setting.proportional else size / disk + beside
        models[f"m{i}"] = Terms(need=size * GIB, reload_s=round(seconds, 1))
    needs = [terms.need for terms in models.values()]
    names, now = list(models), 0.0
    requests: list[Asked] = []
    odds: list[dict[str, float]] = []
    now_odds: dict[str, float] = {}
    weights = [1 / (rank + 1) ** setting.exponent for rank in range(len(names))]
    while len(requests) < REQUESTS:
        if not now_odds or (setting.changes and len(requests) % (REQUESTS // 3) == 0):
            chance.shuffle(names)
            now_odds = dict(zip(names, weights, strict=True))
        name = chance.choices(names, weights)[0]
        row = chance.randrange(1, 6) if setting.bursts else 1
        for _ in range(min(row, REQUESTS - len(requests))):
            now += chance.expovariate(1 / PAUSE_S)
            requests.append(Asked(now, name, lengths.expovariate(1 / ANSWER_S)))
            odds.append(now_odds)
    return Trace(models, max(max(needs), int(setting.share * sum(needs))), requests, odds)


def write(trace: Trace, head: str) -> str:
    """Return a trace whose favourites do not change as the text of a file; `head` says how it was made."""
    lines = [f"# {line}" for line in head.splitlines()]
    lines += ["# budget BYTES", f"budget {trace.budget}", "# model NAME BYTES SECONDS-OF-A-LOAD HOW-POPULAR"]
    for name, terms in trace.models.items():
        lines.append(f"model {name} {terms.need} {terms.reload_s:g} {trace.odds[0][name]:.6f}")
    lines.append("# SECONDS-FROM-THE-BEGINNING MODEL SECONDS-OF-THE-ANSWER")
    lines += [f"{one.at:.3f} {one.model} {one.seconds:.3f}" for one in trace.requests]
    return "\n".join(lines) + "\n"


def read(text: str) -> Trace:
    """Return the trace that a file has."""
    models: dict[str, Terms] = {}
    odds: dict[str, float] = {}
    requests: list[Asked] = []
    budget = 0
    for line in text.splitlines():
        match line.split():
            case ["#", *_]:
                pass
            case ["budget", given]:
                budget = int(given)
            case ["model", name, need, seconds, popular]:
                models[name], odds[name] = Terms(need=int(need), reload_s=float(seconds)), float(popular)
            case [at, name, answer]:
                requests.append(Asked(float(at), name, float(answer)))
            case _:
                raise ValueError(f"not a line of a trace: {line!r}")
    return Trace(models, budget, requests, [odds] * len(requests))


if __name__ == "__main__":
    _seed = int(sys.argv[1])
    _head = f"Zipf's law, exponent {PLAIN.exponent:g}; requests independent, {PAUSE_S:g} s apart in the mean (Poisson)"
    sys.stdout.write(write(made(_seed, PLAIN), f"{_head}; made by bench/traces.py, seed {_seed}"))
