"""Prove on a GPU what is claimed for it: step by step, without a download, half an hour in all.

    make gpu-check                              or python -m bench.gpu_check
    python -m bench.gpu_check --list            the steps, and what is known of each
    python -m bench.gpu_check --steps kill      only these

Models have the shapes of real ones and random weights. Every step is a process of its own and takes less than ten
minutes; what has passed with this commit on this machine is not run again, so that an interrupted check goes on where
it was. Results are written after every step: bench/results/gpu-check-MACHINE.json, and tables in the .md beside it.

Without a GPU the same code runs with tiny models on the CPU, in two minutes: that is a rehearsal. Its checks are
`rehearsed`, never `passed`, and those that need the GPU are `not run`.

Exit status: 0 everything asked for has passed on a GPU; 1 something failed; 3 nothing failed, but not everything was
run on a GPU. docs/gpu.md says what the steps look at, and how vLLM gets to a GPU machine without internet.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.gpu import card
from bench.gpu.house import CPU, GPU, Place
from bench.gpu.sheet import (
    NOT_ALL_RUN,
    Check,
    Result,
    Sheet,
    details,
    due,
    exit_status,
    figures,
    overview,
    result,
    speeds,
    summary,
)
from bench.machine import ROOT
from bench.record import RESULTS, Record

LIMIT_S = 540.0
"""Of a step; what it leaves behind then has a minute to go."""
STOP_S = 50.0
LARGE_CARD = 40 << 30
"""From so many bytes on, a model of 8B and its KV cache fit beside another one."""
TAIL = 1500

CLAIMS = {
    "answer": "a model loads through ingle and answers",
    "together": "two models on one GPU under one budget, both streaming at once",
    "plan": "the plan's estimate, ingle ps and nvidia-smi agree; memory comes back",
    "sleep": "sleeping and waking at levels 1 and 2: the same tokens, times, memory lost",
    "evict": "a third model puts out the right one",
    "kill": "kill -9 of EngineCore, worker and broker frees the card, or adopts",
    "speed-raw": "throughput and first token: AsyncLLM alone",
    "speed-ingle": "throughput and first token: ingle",
    "speed-serve": "throughput and first token: vllm serve",
    "speed-rust": "throughput and first token: vllm serve with its Rust front end",
}


def place() -> Place:
    """Return how large steps are on this machine."""
    if card.obstacle():
        return CPU
    small = min(one.total for one in card.cards()) < LARGE_CARD
    return replace(GPU, large=GPU.middle, kv_bytes=1 << 30) if small else GPU


def run(name: str, into: Path) -> None:
    """Run one step in this process, and write what it found."""
    from bench.gpu import speed, steps

    where = place()
    sheet = Sheet(where.on_gpu)
    step = speed.row(name.partition("-")[2]) if name.startswith("speed-") else getattr(steps, name)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        step(sheet, where)
    except Exception as error:
        sheet.check("the step runs to its end", False, f"{type(error).__name__}: {error}"[-TAIL:])
        raise
    finally:
        checks = [vars(check) for check in sheet.checks]
        into.write_text(json.dumps({"checks": checks, "figures": sheet.figures}))


@dataclass(frozen=True)
class Told:
    """What a child has written, and how it ended."""

    found: dict[str, Any]
    ended: str
    """Empty when it came to its end by itself."""
    said: str


def supervise(command: Sequence[str], into: Path, limit_s: float = LIMIT_S, stop_s: float = STOP_S) -> Told:
    """Run a command that writes JSON into a file; ends it, and all that is left of its session, at the limit."""
    ended = ""
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,
        )
        try:
            if status := child.wait(limit_s):
                ended = f"exit status {status}"
        except subprocess.TimeoutExpired:
            ended = f"not over after {limit_s:.0f} s"
        except BaseException:
            end(child, stop_s)
            raise
        end(child, stop_s)
        log.seek(0)
        said = log.read()[-TAIL:]
    try:
        found = json.loads(into.read_text())
    except (OSError, ValueError):
        found = {"checks": [], "figures": {}}
        ended = ended or "it wrote nothing"
    return Told(found, ended, said)


def end(child: "subprocess.Popen[Any]", stop_s: float) -> None:
    """End a child in its orderly way, then kill what is left of its session."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(stop_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def environment() -> dict[str, str]:
    """Return the environment of steps: ingle is found in the repository, installed or not."""
    folders = [str(ROOT), *(str(ROOT / name) for name in ("client", "daemon", "plugins"))]
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def take(name: str, commit: str) -> Result:
    """Run a step as a process of its own; returns what came of it."""
    date, begin = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="igg-") as folder:
        into = Path(folder, "found.json")
        told = supervise([sys.executable, "-m", "bench.gpu_check", "--run", name, "--into", str(into)], into)
    checks = [Check(**one) for one in told.found["checks"]]
    if told.ended and not any(check.mark == "failed" for check in checks):
        checks.append(Check("the step runs to its end", "failed", f"{told.ended}: {told.said.strip()}"))
    return Result(name, tuple(checks), told.found["figures"], round(time.monotonic() - begin, 1), commit, date)


def earlier(file: Path, machine: dict[str, Any]) -> dict[str, Result]:
    """Return the results of earlier runs, if they are of this machine with these versions."""
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    same = all(kept["machine"].get(key) == machine[key] for key in ("gpus", "cpu", "python", "versions"))
    return {one["name"]: result(one) for one in kept["steps"]} if same else {}


def write(record: Record, results: dict[str, Result], folder: Path, why: str) -> Path:
    """Write JSON and tables of all steps that have been run; returns the file of tables."""
    ordered = [results[name] for name in CLAIMS if name in results]
    kept = Record(record.name, record.label, record.machine)
    kept.data = {"obstacle": why, "steps": [one.plain() for one in ordered]}
    kept.begin("GPU check", aloud=False)
    if why:
        kept.keep(f"**A rehearsal on the CPU, which proves nothing of a GPU: {why}.**")
    kept.keep(summary(ordered))
    kept.keep(overview(CLAIMS, results))
    kept.keep(f"### Speed\n\n{speeds(ordered)}")
    kept.keep(f"### Figures\n\n{figures(ordered)}")
    kept.keep(f"### Checks\n\n{details(ordered)}")
    return kept.write(folder).with_suffix(".md")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is due; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", choices=list(CLAIMS), metavar="STEP", help=f"of {', '.join(CLAIMS)}")
    parser.add_argument("--again", action="store_true", help="run also what has passed with this commit")
    parser.add_argument("--list", action="store_true", help="run nothing: list the steps and what is known of them")
    parser.add_argument("--label", default="", help="a part of the names of the result files, such as `before`")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="for results (bench/results)")
    parser.add_argument("--run", choices=list(CLAIMS), help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.run:
        run(args.run, args.into)
        return 0
    why = card.obstacle()
    record = Record("gpu-check", args.label)
    record.machine |= {"driver": next((one.driver for one in card.cards()), None)}
    results = earlier(args.out / f"{record.stem}.json", record.machine)
    if args.list:
        print(overview(CLAIMS, results))
        return 0
    commit = record.machine["commit"]
    asked = args.steps or list(CLAIMS)
    wanted = due(asked, results, commit, args.again)
    if why:
        print(f"{why}: this is a rehearsal with tiny models on the CPU, and proves nothing of a GPU.\n", flush=True)
    for name in asked:
        if name not in wanted:
            print(f"{name:<12} {results[name].mark} before, with this commit (--again runs it again)", flush=True)
            continue
        print(f"{name:<12} ", end="", flush=True)
        one = results[name] = take(name, commit)
        print(f"{one.mark} in {one.seconds:.0f} s: {one.words}", flush=True)
        for check in one.checks:
            if check.mark == "failed":
                print(f"{'':<12} failed: {check.what}: {check.why}", flush=True)
        write(record, results, args.out, why)
    of_these = [results[name] for name in asked]
    reasons = {check.why for one in of_these for check in one.checks if check.mark == "not run"}
    print("".join(f"\nnot run: {reason}" for reason in sorted(reasons)))
    print(f"{write(record, results, args.out, why)}\n{summary(of_these)}")
    if why and exit_status(of_these) == NOT_ALL_RUN:
        print("This is as it must be on a machine without a GPU; on one with a GPU, status 0 says that all has passed.")
    return exit_status(of_these)


if __name__ == "__main__":
    sys.exit(main())
