"""Mixed load with something killed every few seconds: does anything grow, is anything lost?

    python -m bench.soak [--minutes 30] [--engine vllm] [--every 20] [--kill worker,EngineCore,broker]

Five clients ask without pause: streams, whole answers, streams whose text a plugin changes, detached answers that
another connection attaches to, streams that are cancelled or left with a closed socket, and questions to the daemon
itself. In turn the worker's front process, its EngineCore, the broker (and the nursery, if asked for) are killed with
SIGKILL. Prints a line each interval and, at the end, what grew per minute over the second half, whether that is too
much, and what is left when the daemon has stopped. Every text is compared with the undisturbed answer to the same
prompt. A process that is killed takes its memory with it: each is looked at just before a kill, at equal ages.
"""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
from ingle import Client
from ingle.errors import Cancelled, IngleError, Unreachable
from ingled.testing import DaemonFixture, Wire
from ingled.testing_model import profile
from ingled.testing_remains import abandoned, shared_files

from bench.hooks_host import LOUD
from bench.record import Record, options

CLIENTS = 5
LONG_MIN = 4
WORDS = 300
PROMPTS = 10
LEFT_AFTER = 5
"""Chunks that are read of a stream that is cancelled or left."""
SHM = Path("/dev/shm")
SETTLED_S = 60.0
"""Seconds after which what nobody uses in /dev/shm counts as left."""
ECHO = '[models.soak]\nsource = "builtin:ember"\npreload = true\necho = {delay_ms = 1}\n'
PARTS = ("worker", "EngineCore", "broker", "nursery")
DAEMON = """
[daemon]
stuck = 10
adopt_grace = 20
keep = 60
plugin_folder = "{folder}"

[plugins.loud]
tags = ["loud"]
on_error = "refuse"

"""
COLUMNS: dict[str, float] = {
    "broker MB": 0.5, "nursery MB": 0.5, "worker MB": 3.0, "core MB": 3.0, "hooks MB": 0.5,
    "descriptors": 0.5, "threads": 0.1, "runtime files": 0.3, "temporary files": 0.3, "/dev/shm": 0.3,
}  # fmt: skip
"""What is looked at, and what may grow in a minute. Worker and core are young again and again, and so vary."""


@dataclass
class Tally:
    """What the clients saw, and what the machine shows."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    """One for each look, in the order of COLUMNS."""
    lost_s: list[float] = field(default_factory=list)
    """Of each kill of the broker: seconds until the next one answers."""
    left: list[str] = field(default_factory=list)
    """What was still there when the daemon had stopped."""


def prompt(index: int) -> str:
    """Return one of ten questions."""
    return " ".join(f"word{index % PROMPTS}-{i}" for i in range(WORDS))


SAMPLING: dict[str, Any] = {"max_tokens": WORDS, "temperature": 0, "ignore_eos": True}


class User:
    """One client's load: what it asks, and what it checks."""

    def __init__(self, daemon: DaemonFixture, known: list[str], tally: Tally, stop: threading.Event, number: int):
        """`known` are the undisturbed answers."""
        self.path, self.known, self.tally, self.stop, self.number = str(daemon.socket), known, tally, stop, number

    def run(self) -> None:
        """Ask until told to stop, one thing after the other."""
        things: list[Callable[[int], None]] = [
            self.stream, self.whole, self.handled, self.detached, self.stream, self.cancelled, self.whole, self.left,
        ]  # fmt: skip
        index = self.number
        while not self.stop.is_set():
            index += CLIENTS
            thing = things[index % len(things)]
            try:
                thing(index)
                self.tally.counts[thing.__name__] += 1
                with Client(self.path, timeout=60) as client:
                    client.status()
                    client.requests()
            except Unreachable:  # it came just when there was no daemon, and is told so at once
                self.tally.counts["nobody there"] += 1
                time.sleep(0.1)
            except IngleError as error:
                self.tally.counts["failed"] += 1
                self.tally.counts[f"failed: {thing.__name__}: {getattr(error, 'code', type(error).__name__)}"] += 1
                time.sleep(0.1)

    def check(self, got: str, want: str, *, whole: bool = True) -> None:
        """Note a text that is not what it must be."""
        if got != (want if whole else want[: len(got)]):
            self.tally.wrong.append(f"{len(got)} characters for {len(want)}")

    def stream(self, index: int) -> None:
        """Read a stream."""
        self._stream(index, self.known[index % PROMPTS])

    def handled(self, index: int) -> None:
        """Read a stream that passes a plugin."""
        self._stream(index, self.known[index % PROMPTS].upper(), tags=("loud",))

    def _stream(self, index: int, want: str, tags: tuple[str, ...] = ()) -> None:
        with Client(self.path, timeout=60, tags=tags) as client:
            stream = client.chat(prompt(index), stream=True, **SAMPLING)
            self.check("".join(delta.text for delta in stream), want)
            self.tally.counts["resumed"] += stream.answer.resumed
            if stream.answer.resumed > len(self.tally.rows) + 1:
                self.tally.wrong.append(f"resumed {stream.answer.resumed} times in {len(self.tally.rows)} kills")

    def whole(self, index: int) -> None:
        """Ask for an answer in one piece."""
        with Client(self.path, timeout=60) as client:
            self.check(client.chat(prompt(index), **SAMPLING).text, self.known[index % PROMPTS])

    def detached(self, index: int) -> None:
        """Ask, go away, and read the answer on another connection."""
        with Client(self.path, timeout=60) as client:
            id = client.chat(prompt(index), stream=True, detach=True, **SAMPLING).id
        with Client(self.path, timeout=60) as client:
            self.check(client.attach(id, 0).read().text, self.known[index % PROMPTS])

    def cancelled(self, index: int) -> None:
        """Cancel a stream after a while."""
        with Client(self.path, timeout=60) as client:
            stream = client.chat(prompt(index), stream=True, **SAMPLING)
            with contextlib.suppress(Cancelled):
                for count, _ in enumerate(stream):
                    if count == LEFT_AFTER:
                        stream.cancel()
            self.check(stream.text, self.known[index % PROMPTS], whole=False)

    def left(self, index: int) -> None:
        """Begin a stream and vanish without a word."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError), Wire(self.path) as client:
            client.ask(prompt(index), body=SAMPLING)
            client.until("chunk")


def kill(daemon: DaemonFixture, what: str, tally: Tally) -> None:
    """Kill a part of the daemon; the broker is started again, as a service manager would."""
    if what == "broker":
        daemon.kill()
        begin = time.monotonic()
        daemon.start()
        tally.lost_s.append(time.monotonic() - begin)
        return
    pids = parts(daemon)
    with Wire(daemon.socket) as client:
        client.call("load", model="soak")  # a model is given up after five deaths in a row, unless somebody cares
    if pids[what] is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[what], signal.SIGKILL)


def parts(daemon: DaemonFixture) -> dict[str, int]:
    """Return the process ids of what lives now, by name."""
    assert daemon.process is not None
    with Wire(daemon.socket) as client:
        worker = client.call("models")["models"][0]["pid"]
        found = {"broker": daemon.process.pid, "worker": worker, "nursery": client.call("status")["nursery"]["pid"]}
        found["hooks"] = next((hook["pid"] for hook in client.call("hooks")["hooks"]), None)
    with contextlib.suppress(psutil.Error, IndexError, TypeError):
        found["EngineCore"] = psutil.Process(worker).children()[0].pid
    return {name: pid for name, pid in found.items() if pid is not None}


def look(daemon: DaemonFixture) -> list[float]:
    """Return what COLUMNS says; a process that is being replaced counts as nothing."""
    memory, descriptors, threads = dict.fromkeys(("broker", "nursery", "worker", "EngineCore", "hooks"), 0.0), 0, 0
    for name, pid in parts(daemon).items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            memory[name] = process.memory_info().rss / 1e6
            if name in ("broker", "nursery", "hooks"):  # the others are not ours alone, and young
                descriptors, threads = descriptors + process.num_fds(), threads + process.num_threads()
    return [*memory.values(), descriptors, threads, *files(daemon)]


def files(daemon: DaemonFixture) -> list[float]:
    """Return how many files there are in the runtime folder, the daemon's folder of temporary files, and /dev/shm."""
    places = Path(f"{daemon.socket}.d"), daemon.folder / "tmp"
    return [*(sum(1 for _ in place.rglob("*")) for place in places), len(shared_files([SHM]))]


def slope(minutes: list[float], values: list[float]) -> float:
    """Return the growth per minute by least squares over the second half."""
    xs, ys = minutes[len(minutes) // 2 :], values[len(values) // 2 :]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def slopes(tally: Tally) -> dict[str, float]:
    """Return what grew, by column."""
    return {name: slope(tally.minutes, [row[at] for row in tally.rows]) for at, name in enumerate(COLUMNS)}


def undisturbed(daemon: DaemonFixture, engine: str) -> list[str]:
    """Return the answers to all prompts before anything is killed."""
    if engine == "echo":
        return [prompt(index) for index in range(PROMPTS)]
    with Client(str(daemon.socket), timeout=60) as client:
        return [client.chat(prompt(index), **SAMPLING).text for index in range(PROMPTS)]


def soak(minutes: float, engine: str, every: float, kinds: tuple[str, ...] = PARTS) -> Tally:
    """Run the load and the kills; returns what was seen."""
    tally, stop = Tally(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as name:
        folder = Path(name)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "loud.py").write_text(LOUD)
        config = DAEMON.format(folder=folder / "plugins")
        config += ECHO if engine == "echo" else profile(folder, "soak", preload=True)
        daemon = DaemonFixture(config, engine=engine)
        temporary = daemon.folder / "tmp"
        temporary.mkdir()
        daemon.environ["TMPDIR"] = str(temporary)
        before = abandoned([SHM])
        with daemon:
            with Wire(daemon.socket) as client:
                client.call("load", model="soak")
            known = undisturbed(daemon, engine)
            threads = [
                threading.Thread(target=User(daemon, known, tally, stop, number).run) for number in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            begin = time.monotonic()
            turn = cycle([part for part in PARTS if part in kinds and (part != "EngineCore" or engine == "vllm")])
            print(f"{'min':>6}{'asked':>7}{'failed':>7}{'resumed':>8}",
                  *(f"{name:>{len(name) + 1}}" for name in COLUMNS), " killed", flush=True)  # fmt: skip
            while time.monotonic() - begin < minutes * 60:
                time.sleep(every)
                part = next(turn)
                tally.minutes.append((time.monotonic() - begin) / 60)
                tally.rows.append(row := look(daemon))
                print(f"{tally.minutes[-1]:>6.1f}{asked(tally):>7}{tally.counts['failed']:>7}{tally.counts['resumed']:>8}",
                      *(f"{value:>{len(name) + 1}.{1 if 'MB' in name else 0}f}"
                        for name, value in zip(COLUMNS, row, strict=True)), f" {part}", flush=True)  # fmt: skip
                kill(daemon, part, tally)
            stop.set()
            for thread in threads:
                thread.join(120)
            daemon.stop()
            tally.left = [str(path) for path in temporary.rglob("*")] + [f"process {pid}" for pid in daemon.processes()]
            tally.left += [str(path) for path in Path(f"{daemon.socket}.d").rglob("*") if path.is_socket()]
            until = time.monotonic() + SETTLED_S
            while (more := abandoned([SHM]) - before) and time.monotonic() < until:
                time.sleep(0.5)  # others may be about to use what they have made
            tally.left += sorted(more)
    return tally


def asked(tally: Tally) -> int:
    """Return how many questions were answered as they must be."""
    names = ("stream", "whole", "handled", "detached", "cancelled", "left")
    return sum(tally.counts[name] for name in names)


def main() -> int:
    """Run the soak and print the verdict; returns the exit status."""
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--every", type=float, default=20, help="seconds between kills")
    parser.add_argument("--kill", default="worker,EngineCore,broker", help="what is killed in turn")
    args = parser.parse_args()
    record = Record("soak", args.label)
    record.begin("Soak")
    tally = soak(args.minutes, args.engine, args.every, tuple(args.kill.split(",")))
    counts = ", ".join(f"{name} {count}" for name, count in sorted(tally.counts.items()))
    record.say(f"{args.minutes:.0f} minutes on {args.engine}, a kill every {args.every:.0f} s ({args.kill}): {counts}; "
               f"{len(tally.wrong)} wrong texts {tally.wrong[:5]}")  # fmt: skip
    if tally.lost_s:
        record.say(f"A killed broker's successor answered after {max(tally.lost_s):.2f} s at most "
                   f"({len(tally.lost_s)} kills).")  # fmt: skip
    record.say(f"Left when it had stopped: {', '.join(tally.left) or 'nothing'}.")
    growth = slopes(tally)
    much = [name for name, most in COLUMNS.items() if growth[name] > most]
    step = max(1, len(tally.rows) // 30)
    looks = list(zip(tally.minutes, tally.rows, strict=True))[::step]
    rows = [[f"{at:.1f}", *(f"{value:.1f}" if "MB" in name else f"{value:.0f}"
             for name, value in zip(COLUMNS, row, strict=True))] for at, row in looks]  # fmt: skip
    record.table("Just before a kill:", ["minute", *COLUMNS], rows)
    record.table(
        "Growth a minute over the second half, and what it may be:",
        ["", *COLUMNS],
        [["grew", *(f"{value:+.2f}" for value in growth.values())], ["may", *map(str, COLUMNS.values())]],
    )
    record.data = {"counts": dict(tally.counts), "minutes": tally.minutes, "rows": tally.rows, "left": tally.left}
    long = args.minutes >= LONG_MIN
    record.say(f"No verdict on growth from less than {LONG_MIN} minutes." if not long
               else f"Grows: {', '.join(much)}." if much else "Nothing grows.")  # fmt: skip
    if not args.quick:
        record.write()
    return 1 if tally.wrong or tally.left or (long and much) else 0


if __name__ == "__main__":
    sys.exit(main())
