"""Mixed load with something killed every few seconds: does anything grow, is anything lost?

    python bench/soak.py [--minutes 30] [--engine vllm] [--every 20] [--kill worker,EngineCore,nursery,broker]

Four clients ask without pause (streams and whole answers); in turn the worker's front process, its EngineCore, the
nursery and the broker are killed with SIGKILL. Prints a line each interval and, at the end, what grew per minute over
the second half, and whether that is too much. Every text is compared: echo answers with what they must be, greedy ones
of vLLM with the first answer to the same prompt. A broker that is killed takes its memory with it: to see whether one
grows, leave it alive.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
from ingle import Client
from ingle.errors import IngleError
from ingled.testing import DaemonFixture, Wire
from ingled.testing_model import profile

CLIENTS = 4
LONG_MIN = 4
WORDS = 300
ECHO = '[models.soak]\nsource = "builtin:ember"\npreload = true\necho = {delay_ms = 1}\n'
PARTS = ("worker", "nursery", "broker", "EngineCore")
MOST = {"MB of the broker": 0.5, "descriptors": 0.3, "threads": 0.1, "files": 0.3, "MB of the rest": 10.0}
"""What may grow in a minute, by column; the rest are models and nursery, which are young again and again."""
DAEMON = "[daemon]\nstuck = 5\nadopt_grace = 20\n"


@dataclass
class Tally:
    """What the clients saw, and what the machine shows."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rows: list[tuple[float, ...]] = field(default_factory=list)


def prompt(index: int) -> str:
    """Return one of ten questions."""
    return " ".join(f"word{index % 10}-{i}" for i in range(WORDS))


def ask(daemon: DaemonFixture, engine: str, tally: Tally, stop: threading.Event, mine: int) -> None:
    """Ask until told to stop, and check every answer."""
    known: dict[int, str] = {}
    index = mine
    while not stop.is_set():
        try:
            with Client(str(daemon.socket), timeout=60) as client:
                while not stop.is_set():
                    index += CLIENTS
                    options: dict[str, Any] = {"max_tokens": WORDS, "temperature": 0, "ignore_eos": True}
                    if index % 3:
                        stream = client.chat(prompt(index), stream=True, **options)
                        text = "".join(delta.text for delta in stream)
                        tally.counts["resumed"] += stream.answer.resumed
                    else:
                        text = client.chat(prompt(index), **options).text
                    tally.counts["done"] += 1
                    want = prompt(index) if engine == "echo" else known.setdefault(index % 10, text)
                    if text != want:
                        tally.wrong.append(f"{len(text)} characters for {len(want)}")
        except IngleError as error:
            tally.counts["failed"] += 1
            tally.counts[f"failed: {getattr(error, 'code', type(error).__name__)}"] += 1
            time.sleep(0.1)


def kill(daemon: DaemonFixture, what: str) -> None:
    """Kill a part of the daemon; the broker is started again, as a service manager would."""
    assert daemon.process is not None
    if what == "broker":
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        daemon.start()
        return
    with Wire(daemon.socket) as client:
        worker = client.call("models")["models"][0]["pid"]
        nursery = client.call("status")["nursery"]["pid"]
        if worker is not None:
            client.call("load", model="soak")  # a model is given up after five deaths in a row, unless somebody cares
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess, TypeError):
        if what == "EngineCore":
            worker = psutil.Process(worker).children()[0].pid
        os.kill(nursery if what == "nursery" else worker, signal.SIGKILL)


def look(daemon: DaemonFixture, begin: float) -> tuple[float, ...]:
    """Return minutes, MB of the broker, its descriptors and threads, files of the runtime folder, MB of the rest."""
    assert daemon.process is not None
    broker = psutil.Process(daemon.process.pid)
    files = sum(1 for _ in Path(f"{daemon.socket}.d").rglob("*"))
    rest = 0
    for process in psutil.process_iter(["cmdline"]):
        if str(daemon.socket) + ".d" in " ".join(process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                rest += process.memory_info().rss
    minutes = (time.monotonic() - begin) / 60
    return minutes, broker.memory_info().rss / 1e6, broker.num_fds(), broker.num_threads(), files, rest / 1e6


def slope(rows: list[tuple[float, ...]], column: int) -> float:
    """Return the growth per minute by least squares over the second half."""
    half = rows[len(rows) // 2 :]
    xs, ys = [row[0] for row in half], [row[column] for row in half]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def grown(rows: list[tuple[float, ...]]) -> list[str]:
    """Return what grew more than it may."""
    return [name for column, (name, most) in enumerate(MOST.items(), 1) if slope(rows, column) > most]


def soak(minutes: float, engine: str, every: float, kinds: tuple[str, ...] = PARTS) -> Tally:
    """Run the load and the kills; returns what was seen."""
    tally, stop = Tally(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        models = ECHO if engine == "echo" else profile(Path(folder), "soak", preload=True)
        with DaemonFixture(DAEMON + models, engine=engine) as daemon:
            with Wire(daemon.socket) as client:
                client.call("load", model="soak")
            threads = [
                threading.Thread(target=ask, args=(daemon, engine, tally, stop, number)) for number in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            begin = time.monotonic()
            parts = cycle([part for part in PARTS if part in kinds and (part != "EngineCore" or engine == "vllm")])
            print(f"{'min':>6}{'done':>7}{'failed':>7}{'resumed':>8}{'MB':>7}{'fds':>5}{'threads':>8}{'files':>6}"
                  f"{'rest MB':>9}  killed", flush=True)  # fmt: skip
            while time.monotonic() - begin < minutes * 60:
                time.sleep(every)
                part = next(parts)
                tally.rows.append(row := look(daemon, begin))
                counts = tally.counts
                print(f"{row[0]:>6.1f}{counts['done']:>7}{counts['failed']:>7}{counts['resumed']:>8}{row[1]:>7.1f}"
                      f"{row[2]:>5.0f}{row[3]:>8.0f}{row[4]:>6.0f}{row[5]:>9.0f}  {part}", flush=True)  # fmt: skip
                kill(daemon, part)
            stop.set()
            for thread in threads:
                thread.join(120)
    return tally


def main() -> int:
    """Run the soak and print the verdict; returns the exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    options.add_argument("--every", type=float, default=20, help="seconds between kills")
    options.add_argument("--kill", default=",".join(PARTS), help="what is killed in turn")
    args = options.parse_args()
    tally = soak(args.minutes, args.engine, args.every, tuple(args.kill.split(",")))
    print(", ".join(f"{name}: {slope(tally.rows, i):+.2f}/min" for i, name in enumerate(MOST, 1)))
    print(dict(tally.counts), f"{len(tally.wrong)} wrong texts", tally.wrong[:5])
    if args.minutes < LONG_MIN:
        print(f"no verdict on growth from less than {LONG_MIN} minutes")
        return 1 if tally.wrong else 0
    much = grown(tally.rows)
    print(f"grows: {', '.join(much)}" if much else "nothing grows")
    return 1 if tally.wrong or much else 0


if __name__ == "__main__":
    sys.exit(main())
