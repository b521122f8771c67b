"""A hundred loads that the plan called fitting, under a limit of the kernel: does one run out of memory? And `Never`?

    python -m bench.loads --out FILE [--fitting 100] [--minutes 9] [--seed 1]

Models of random shapes and options are planned by a daemon in a control group of its own, each under a limit of 0.6 to
1.6 times what the plan says that it needs, with no head-room. What fits by the plan is loaded and driven with its
largest batch, in two ways; what never fits is loaded all the same (its profile says that it takes nothing), driven
likewise, and has been refused wrongly if it lives. Run it again and it goes on where it stopped, until so many loads
were called fitting. Needs root, for the control group.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingled.broker.needs import LOOK_S
from ingled.testing import DaemonFixture, Wire

from bench.memory import DRIVEN, LONG_S, MIB, Case, work, write
from bench.shapes import Shape

BATCH = 8
"""Models that one daemon has, before the next one is started with others."""
PLAN_S = 90.0
LEAST, MOST = 0.6, 1.6
"""Limits, in parts of what the plan says."""


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
    heads = chance.choice((4, 6, 8, 12))
    shape = Shape(
        hidden=64 * chance.randrange(3, 11),
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
    token = shape.kv_bytes * (2 if stored == "F32" else 1)
    kv_mib = max(16, -(-token * (context + 256) * chance.choice((1, 2, 4)) // MIB))
    case = Case(shape, words, stored, context, kv_mib, kind)
    return Draw(case, sequences, max(batch, sequences), round(chance.uniform(LEAST, MOST), 3))


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
        text = self._text(())
        self.daemon = DaemonFixture(text, engine="vllm", environ={"VLLM_CACHE_ROOT": cache}, prefix=limit.command)

    def _text(self, forced: tuple[str, ...]) -> str:
        tables = (
            one.profile(name, self._folder / name, "1MiB" * (name in forced)) for name, one in self._draws.items()
        )
        return "\n".join(['[daemon]\nhead_room = "1MiB"', *tables])

    def run(self, client: Wire, name: str) -> dict[str, Any]:
        """Plan one under its limit; load and drive it; return what came of it, in bytes."""
        self._limit.set(None)
        plan = self._planned(client, name, lambda plan: plan["need"]["source"] == "estimated")
        need = int(plan["need"]["bytes"])
        budget = int(need * self._draws[name].factor)
        plan = self._bounded(client, name, budget)
        forced = plan["decision"] != "fits"  # never, or not while others (the daemon itself) have their memory
        row = {"need": need, "parts": plan["need"], "budget": budget, "decision": "never" if forced else "fits"}
        if forced:  # whoever plans, plans without limit
            self._limit.set(None)
            self._configure(client, (name,))
            self._planned(client, name, lambda plan: plan["need"]["source"] == "configured")
            self._bounded(client, name, budget)
        before = self._limit.killed
        row |= self._drive(client, name)
        row |= {"killed": self._limit.killed - before, "most": self._most(client, name)}
        if forced:
            self._limit.set(None)
            self._configure(client, ())
        return row

    def _configure(self, client: Wire, forced: tuple[str, ...]) -> None:
        self.daemon.file.write_text(self._text(forced))
        client.call("reload")

    def _bounded(self, client: Wire, name: str, budget: int) -> dict[str, Any]:
        """Set the limit, and return the plan once the daemon has seen it."""

        def seen(plan: dict[str, Any]) -> bool:
            if abs(int(plan["device"]["budget_bytes"] or 0) - budget) < budget / 40:  # of less it tells nobody
                return True
            self._limit.set(self._limit.used + budget)
            time.sleep(1.2 * LOOK_S)  # who plans has memory too: it is to look while nobody does
            return False

        return self._planned(client, name, seen)

    def _planned(self, client: Wire, name: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PLAN_S
        while not done(plan := client.call("plan", model=name)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no such plan of {name}: {plan}")
            time.sleep(0.2)
        return dict(plan)

    def _drive(self, client: Wire, name: str) -> dict[str, Any]:
        """Load a model and run its largest batch. What fails is told; then it is unloaded."""
        one, failed, taken = self._draws[name], "", 0
        client.call("load", model=name, wait=False)
        while (model := client.call("show", model=name))["state"] not in ("ready", "failed"):
            if self._dead(model):
                return {"failed": "it died while it was loaded", "taken": 0}
            time.sleep(0.1)
        if model["state"] == "failed":
            return {"failed": model["why"], "taken": 0}
        taken = model["taken_bytes"]
        for body in (DRIVEN[0], DRIVEN[-1]):
            failed = failed or work(client, name, one.case, one.sequences, body, one.batch)
        return {"failed": failed, "taken": taken}

    def _dead(self, model: dict[str, Any]) -> bool:
        return any("ended" in line for line in model["story"])

    def _most(self, client: Wire, name: str) -> int:
        """Unload a model; return the most that it had."""
        client.call("unload", model=name, force=True)
        self._planned(client, name, lambda plan: plan["state"] in ("cold", "failed"))
        entries = json.loads((self.daemon.folder / "state" / "ledger.json").read_text())["entries"].values()
        return max((int(one["most"]) for one in entries if one["model"] == name), default=0)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures in words."""
    fitting = [row for row in rows if row["decision"] == "fits"]
    never = [row for row in rows if row["decision"] == "never"]
    out = [row for row in fitting if row["killed"] or row["failed"]]
    over = [row for row in fitting if row["most"] > row["budget"]]
    wrong = [row for row in never if not row["killed"] and not row["failed"]]
    known = [row for row in fitting if row["most"]]
    off = sorted((row["need"] - row["most"]) / row["most"] * 100 for row in known)
    lines = [
        f"{len(fitting)} loads were called fitting: {len(out)} ran out of memory, {len(over)} had more than there was.",
        f"{len(never)} were called Never: {len(wrong)} of them lived all the same.",
    ]
    if off:
        middle = off[len(off) // 2]
        lines.append(f"Estimate against peak: {off[0]:+.1f} to {off[-1]:+.1f} %, median {middle:+.1f} %.")
    return "\n".join(lines)


def main() -> int:
    """Go on until so many loads were called fitting, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the figures are, and are added")
    parser.add_argument("--fitting", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
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
            with trial.daemon as daemon, Wire(daemon.socket) as client:
                for name in draws:
                    if over():
                        break
                    try:
                        row = trial.run(client, name)
                    except RuntimeError as error:
                        row = {"decision": "none", "failed": str(error)}
                    rows.append({"model": name, **row})
                    options.out.write_text(json.dumps(rows, indent=1) + "\n")
                    print(rows[-1], flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
