"""A hundred loads that the plan called fitting, under a limit of the kernel: does one run out of memory? And `Never`?

    python -m bench.loads [--fitting 100] [--minutes 9] [--seed 1]

Models of random shapes and options are planned by a daemon in a control group of its own, which is told that models may
have 0.6 to 1.25 times what the plan says that this one needs, and the kernel gives it no more. What fits by the plan is
loaded and driven with its largest batch, in several ways; what never fits is loaded all the same (its profile says that
it takes nothing), driven likewise, and has been refused wrongly if it lives. Neither is what has to wait; it is counted
apart, as is what lived without its largest batch. Run again, it goes on where it stopped, until so many loads were
called fitting. Needs root, for the control group.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from types import TracebackType
from typing import Any, Self

from ingled import machine
from ingled.testing import DaemonFixture, Wire

from bench.memory import DRIVEN, LONG_S, MIB, Case, work, write
from bench.record import RESULTS, Record
from bench.shapes import Shape
from bench.table import markdown

BATCH = 8
"""Models that one daemon has, before the next one is started with others."""
PLAN_S = 90.0
LEAST, MOST = 0.6, 1.25
"""Limits, in parts of what the plan says: from 1 on it fits."""
FITTING = 0.7
"""Part of the models that are to fit."""
EDGE = 0.1
"""Who is as near to the limit is counted apart: an estimate that is off shows there first."""
WRITTEN_S = 5.0
"""After such a time the ledger is in its file: whether a model's largest batch has run comes last."""
SETTLED_S, SETTLED = 0.3, 1 << 20
"""A control group in which nothing changes by more than so much, for so long, is at rest."""


@dataclass(frozen=True)
class Draw:
    """A model with its options, and how much memory there is for it."""

    case: Case
    sequences: int
    batch: int
    """Tokens that are computed at once at most."""
    factor: float

    def profile(self, name: str, folder: Path, need: str = "") -> str:
        """Return its table of the configuration; `need`: what is said that it takes."""
        dtype = "float32" if self.case.stored == "F32" else "bfloat16"
        said = f'memory = "{need}"' if need else ""
        return f"""
[models.{name}]
source = "{folder}"
context = {self.case.context}
dtype = "{dtype}"
max_sequences = {self.sequences}
kv_cache = "{self.case.kv_mib}MiB"
{said}
engine = {{max_num_batched_tokens = {self.batch}}}
"""


def draw(number: int, seed: int) -> Draw:
    """Return the model of this number."""
    chance = random.Random(f"{seed}/{number}")
    hidden = 64 * chance.randrange(3, 11)
    heads = chance.choice([one for one in (4, 6, 8, 12) if hidden % one == 0])  # else the configuration is refused
    shape = Shape(
        hidden=hidden,
        layers=chance.randrange(2, 13),
        heads=heads,
        kv_heads=chance.choice([one for one in (2, 4, heads) if heads % one == 0]),
        head_dim=64,
        inner=64 * chance.randrange(8, 41),
        tied=chance.random() < 0.5,
    )
    kind = chance.choice(("Qwen3ForCausalLM", "LlamaForCausalLM"))
    stored, context = chance.choice(("F32", "BF16", "BF16")), chance.choice((256, 512, 1024))
    words = 1000 * chance.choice((8, 16, 32, 64))
    sequences, batch = chance.choice((4, 8, 16, 24)), chance.choice((512, 1024, 2048, 4096))
    batch = min(batch, sequences * context // 2)  # the first prompt of a burst goes alone: the others are to fill it
    token = shape.kv_bytes * (2 if stored == "F32" else 1)
    tokens = max(batch * 2, (context + 256) * chance.choice((1, 2, 4)))
    kv_mib = max(16, -(-token * tokens // MIB))
    case = Case(shape, words, stored, context, kv_mib, kind)
    factor = chance.uniform(1, MOST) if chance.random() < FITTING else chance.uniform(LEAST, 1)
    return Draw(case, sequences, max(batch, sequences), round(factor, 3))


class Limit:
    """A control group with a limit of memory, of version 1 or 2; removed at the end."""

    def __init__(self, name: str) -> None:
        """Make it. Raises OSError without the right to."""
        old = Path("/sys/fs/cgroup/memory")
        self._old = old.is_dir()
        self.folder = (old if self._old else Path("/sys/fs/cgroup")) / name
        self.folder.mkdir()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove it, once its processes have gone."""
        deadline = time.monotonic() + LONG_S
        while self.folder.exists() and time.monotonic() < deadline:
            try:
                self.folder.rmdir()
            except OSError:
                time.sleep(0.1)

    @property
    def command(self) -> tuple[str, ...]:
        """Return what runs a command in it."""
        return "/bin/sh", "-c", f'echo $$ > {self.folder}/cgroup.procs; exec "$0" "$@"'

    def take(self, pid: int) -> None:
        """Have a process in it; what it has so far stays where it was counted."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    @contextmanager
    def around(self, pid: int) -> Iterator[None]:
        """Have a process in it for a while: what it starts meanwhile stays."""
        groups = machine.places(Path(f"/proc/{pid}/cgroup").read_text(), Path("/"))
        before = next(file for place in groups if (file := place[0] / "cgroup.procs").exists())
        self.take(pid)
        try:
            yield
        finally:
            before.write_text(str(pid))

    def set(self, limit: int | None) -> None:
        """Have so many bytes for all of it; None: without bound."""
        name, free = ("memory.limit_in_bytes", "-1") if self._old else ("memory.max", "max")
        (self.folder / name).write_text(free if limit is None else str(limit))

    @property
    def used(self) -> int:
        """Return what it has, but for page cache that the kernel may drop."""
        name, cache = (
            ("memory.usage_in_bytes", "total_inactive_file") if self._old else ("memory.current", "inactive_file")
        )
        stat = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return int((self.folder / name).read_text()) - int(stat[cache])

    @property
    def killed(self) -> int:
        """Return how many processes the kernel has killed in it."""
        file = self.folder / ("memory.oom_control" if self._old else "memory.events")
        return int(dict(line.split() for line in file.read_text().splitlines())["oom_kill"])


class Trial:
    """One daemon under a limit, and its models."""

    def __init__(self, draws: dict[str, Draw], limit: Limit, folder: Path) -> None:
        self._draws, self._limit, self._folder = draws, limit, folder
        for name, one in draws.items():
            write(one.case, folder / name)
        # What vLLM keeps of an architecture is kept, or each first one would be inspected.
        cache = os.environ.get("VLLM_CACHE_ROOT") or str(Path.home() / ".cache/vllm")
        text = self._text()
        self.daemon = DaemonFixture(text, engine="vllm", environ={"VLLM_CACHE_ROOT": cache}, prefix=limit.command)

    def _text(self, budget: int | None = None, forced: str = "") -> str:
        """Return the configuration: so much memory for models, and of this one it is said that it takes nothing."""
        room = "" if budget is None else f"memory = {budget}\n"
        tables = (
            one.profile(name, self._folder / name, "1MiB" * (name == forced)) for name, one in self._draws.items()
        )
        return "\n".join([f'[daemon]\nhead_room = "1MiB"\n{room}', *tables])

    def run(self, client: Wire, name: str) -> dict[str, Any]:
        """Plan one under its limit; load and drive it; return what came of it, in bytes."""
        need = self._planned(client, name, lambda plan: plan["need"]["source"] == "estimated")["need"]
        budget = int(need["bytes"] * self._draws[name].factor)
        plan = self._configure(client, name, budget)
        row = {"need": need["bytes"], "parts": need, "budget": budget, "decision": plan["decision"]}
        if row["decision"] == "never":
            self._configure(client, name, budget, forced=True)
        if row["decision"] in ("fits", "never"):
            self._limit.set(self._at_rest() + budget)  # who plans has memory too: nobody does any more
            before = self._limit.killed
            row |= self._drive(client, name)
            row |= {"killed": self._limit.killed - before} | self._most(client, name, worked=not row["failed"])
        self._limit.set(None)
        return row

    def _configure(self, client: Wire, name: str, budget: int, *, forced: bool = False) -> dict[str, Any]:
        """Have the daemon go by this, and return its plan of a model once it does."""
        self.daemon.file.write_text(self._text(budget, name * forced))
        client.call("reload")
        source = "configured" if forced else "estimated"

        def done(plan: dict[str, Any]) -> bool:
            return bool(plan["device"]["budget_bytes"] == budget and plan["need"]["source"] == source)

        return self._planned(client, name, done)

    def _at_rest(self) -> int:
        """Return what all of it has once that does not change."""
        deadline, before = time.monotonic() + PLAN_S, -1
        while abs((now := self._limit.used) - before) > SETTLED:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the daemon is not at rest: it has {now} bytes, and had {before}")
            before = now
            time.sleep(SETTLED_S)
        return now

    def _planned(self, client: Wire, name: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PLAN_S
        while not done(plan := client.call("plan", model=name)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no such plan of {name}: {plan}")
            time.sleep(0.2)
        return dict(plan)

    def _drive(self, client: Wire, name: str) -> dict[str, Any]:
        """Load a model and run its largest batch. What fails is told."""
        one, failed = self._draws[name], ""
        client.call("load", model=name, wait=False)
        while (model := client.call("show", model=name))["state"] not in ("ready", "failed"):
            if any("ended" in line for line in model["story"]):
                return {"failed": f"it died while it was loaded: {model['why']}"}
            time.sleep(0.1)
        if model["state"] == "failed":
            return {"failed": model["why"]}
        for body in (DRIVEN[0], DRIVEN[-1]):
            failed = failed or work(client, name, one.case, one.sequences, body, one.batch)
        return {"failed": failed, "load_s": model["load_s"]}

    def _most(self, client: Wire, name: str, *, worked: bool) -> dict[str, Any]:
        """Unload a model; return what it had once it was ready and at most, and whether its largest batch is in."""
        client.call("unload", model=name, force=True)
        deadline = time.monotonic() + LONG_S
        while client.call("show", model=name)["state"] not in ("cold", "failed") and time.monotonic() < deadline:
            time.sleep(0.05)
        deadline, found = time.monotonic() + WRITTEN_S * worked, self._learned(name)
        while not any(one["full"] for one in found) and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self._learned(name)
        sizes = {what: max((one[what] for one in found), default=0) for what in ("taken", "most")}
        return sizes | {"full": any(one["full"] for one in found)}

    def _learned(self, name: str) -> list[dict[str, Any]]:
        file = self.daemon.folder / "state" / "ledger.json"
        entries = json.loads(file.read_text())["entries"].values() if file.exists() else ()
        return [one for one in entries if one["model"] == name]


HEAD = ["", "loads", "ran out of memory", "lived", "with their largest batch", "with more than there was"]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown, and in words."""
    lines = []
    for decision in ("fits", "never"):
        ran = [row for row in rows if row["decision"] == decision]
        near = [row for row in ran if abs(row["budget"] / row["need"] - 1) <= EDGE]
        lines += [_ends(decision, ran), _ends(f"of these within {EDGE:.0%} of the limit", near)]
    others = Counter(row["decision"] for row in rows if row["decision"] not in ("fits", "never"))
    words = [f"{count} more: {decision}." for decision, count in others.items()]
    fits = [row for row in rows if row["decision"] == "fits" and not _died(row)]
    known = [row for row in fits if row["most"] > row["taken"]]
    for what, ready in (("its largest batch", False), ("it was ready", True)):
        if known:
            words.append(f"Estimate against what was taken after {what}: {_spread(known, ready)}.")
    return "\n\n".join([markdown(HEAD, lines), *words])


def _ends(name: str, ran: list[dict[str, Any]]) -> list[str]:
    lived = [row for row in ran if not _died(row)]
    full = sum(row["full"] for row in lived)
    over = sum(row["most"] > row["budget"] for row in lived)
    return [name, *map(str, (len(ran), len(ran) - len(lived), len(lived), full, over))]


def _died(row: dict[str, Any]) -> bool:
    return bool(row["killed"] or row["failed"])


def _spread(ran: list[dict[str, Any]], ready: bool) -> str:
    def off(row: dict[str, Any]) -> float:
        said, was = (row["need"] - row["parts"]["activations"], row["taken"]) if ready else (row["need"], row["most"])
        return 100.0 * float(said - was) / float(was)

    offs = [off(row) for row in ran]
    near = sum(abs(one) <= 5 for one in offs)
    return (
        f"{fmean(offs):+.1f} % on average, {pstdev(offs):.1f} % around that, {min(offs):+.1f} to {max(offs):+.1f} %,"
        f" {near} of {len(offs)} within 5 %"
    )


def main() -> int:
    """Go on until so many loads were called fitting, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", default="", help="keeps results of one machine apart")
    parser.add_argument("--fitting", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    record = Record("loads", options.label)
    file = RESULTS / f"{record.stem}.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    record.data = {"seed": options.seed, "rows": rows}
    record.begin("A hundred loads that the plan called fitting, and those that it refused", aloud=False)
    until = time.monotonic() + 60 * options.minutes

    def over() -> bool:
        fitting = [row for row in rows if row["decision"] == "fits"]
        return len(fitting) >= int(options.fitting) or time.monotonic() > until

    while not over():
        first = len(rows)
        draws = {f"m{number}": draw(number, options.seed) for number in range(first, first + BATCH)}
        with (
            tempfile.TemporaryDirectory(prefix="ingle-loads-") as folder,
            Limit(f"ingle-loads-{os.getpid()}-{first}") as limit,
        ):
            trial = Trial(draws, limit, Path(folder))
            with trial.daemon as daemon:
                for name in draws:
                    if over():
                        break
                    try:
                        with Wire(daemon.socket) as client:
                            row = trial.run(client, name)
                    except RuntimeError as error:
                        row = {"decision": "none", "failed": str(error)}
                    rows.append({"model": name, **row})
                    record.write()
                    print(rows[-1], flush=True)
    record.say(table(rows))
    record.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
