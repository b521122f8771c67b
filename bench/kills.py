"""What streams notice when a part of the daemon is killed, hangs or is replaced, on an idle machine and on a busy one.

    python -m bench.kills [--engine vllm] [--streams 50] [--busy 0 14] [--what broker replace ...] [--rounds 3]
                          [--one-group]

Fifty clients read answers of a warm model without pause, each on a connection of its own. Then

    broker      is killed with SIGKILL and started again at once, as a service manager would
    replace     another one takes over (`ingled --replace`)
    worker      the worker's front process is killed
    EngineCore  the process that runs the model is killed (vLLM)
    hang        it is stopped with SIGSTOP, and found out (vLLM)
    nursery     the process that starts workers is killed

Of each stream: its longest silence since then, and the seconds from then until its text goes on, which is the end of
that silence. (A daemon that is replaced serves until the next one has started: the silence is what its clients see.)
Every text is compared with the undisturbed one, and processes and files are counted before and after. `busy` processes
beside do nothing but take turns. Where we may, the daemon, the clients and these have a control group each, as services
and sessions have under systemd; with `--one-group` all have one, and a busy process as much as one of ours.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ingle.aio import Client
from ingled.testing import DaemonFixture, Wire
from ingled.testing_model import profile

from bench.group import groups, inside, join
from bench.installed import as_installed
from bench.record import Record, options
from bench.soak import files, parts

STREAMS = 50
TOKENS = 1000
PROMPT = "Tell me a long story about a fire."
ECHO = '[models.warm]\nsource = "builtin:ember"\npreload = true\necho = {delay_ms = 20}\n'
DAEMON = "[daemon]\nstuck = 10\nadopt_grace = 60\n\n"
UNDER_WAY_S, QUICK_S = 3.0, 0.2
"""For so long streams run before each break, and after it."""
PATIENCE_S = 90.0
BROKERS, ENGINES = ("broker", "replace"), ("EngineCore", "hang")
WHAT = (*BROKERS, "worker", *ENGINES, "nursery")
HEAD = [
    "", "busy beside", "times", "new broker answers, s", "silence, s: median", "longest",
    "streams go on, s: median", "last", "wrong or failed", "resumed", "more processes, files, /dev/shm",
]  # fmt: skip


@dataclass
class Reader:
    """One client: it reads one answer after the other, and notes when text has come."""

    path: str
    known: str
    times: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    resumed: int = 0

    async def run(self) -> None:
        """Read until cancelled."""
        async with Client(self.path, timeout=PATIENCE_S) as client:
            while True:
                stream = client.chat(PROMPT, stream=True, max_tokens=TOKENS, temperature=0, ignore_eos=True)
                async for _ in stream:
                    self.times.append(time.monotonic())
                self.resumed += stream.answer.resumed
                if stream.text != self.known:
                    self.wrong.append(f"{len(stream.text)} characters for {len(self.known)}")

    def silence(self, since: float) -> tuple[float, float]:
        """Return the seconds of the longest silence since then, and when it ended, in seconds since then."""
        before = max((at for at in self.times if at <= since), default=since)
        after = [at for at in self.times if at > since]
        begin, end = max(zip([before, *after], after, strict=False), key=lambda pair: pair[1] - pair[0])
        return end - begin, end - since


@dataclass
class Break:
    """One break."""

    answers_s: float
    silences: list[tuple[float, float]]
    """Of each stream, as `Reader.silence` tells it."""
    left: list[float]
    """How many more processes, files of the daemon, and files in /dev/shm there are than before."""


@contextlib.contextmanager
def busy(count: int, prefix: tuple[str, ...] = ()) -> Iterator[None]:
    """Have so many processes that do nothing but take turns."""
    command = [*prefix, sys.executable, "-I", "-S", "-c", "while True: pass"]
    beside = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def strike(daemon: DaemonFixture, what: str) -> float:
    """Break something; returns the seconds until the daemon answers."""
    old = daemon.process
    assert old is not None
    pids = parts(daemon) if what not in BROKERS else {}
    begin = time.monotonic()
    if what == "broker":
        old.send_signal(signal.SIGKILL)
        old.wait()
        daemon.start()
    elif what == "replace":
        with daemon.log.open("ab") as out:
            daemon.process = subprocess.Popen(
                [*daemon.command, "--replace"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=daemon.environ
            )
        old.wait(PATIENCE_S)
    else:
        os.kill(pids["EngineCore" if what == "hang" else what], signal.SIGSTOP if what == "hang" else signal.SIGKILL)
    new = daemon.process
    assert new is not None
    while True:
        with contextlib.suppress(OSError), Wire(daemon.socket) as client:
            if client.call("status")["daemon"]["pid"] == new.pid:
                return time.monotonic() - begin
        if new.poll() is not None or time.monotonic() > begin + PATIENCE_S:
            raise RuntimeError(f"no new daemon:\n{daemon.log.read_text()}")
        time.sleep(0.005)  # nothing to wait on: its socket does not exist yet


def count(daemon: DaemonFixture) -> list[float]:
    """Return how many processes of the daemon, files of it, and files in /dev/shm there are."""
    runtime, temporary, shared = files(daemon)
    return [len(daemon.processes()), runtime + temporary, shared]


async def breaks(
    daemon: DaemonFixture, readers: list[Reader], what: str, rounds: int, under_way_s: float
) -> list[Break]:
    """Break something again and again under streams."""
    found = []
    reading = asyncio.gather(*(reader.run() for reader in readers))
    try:
        for _ in range(rounds):
            for reader in readers:
                reader.times.clear()
            await flowing(readers, reading, time.monotonic())
            await asyncio.sleep(under_way_s)
            before, begin = count(daemon), time.monotonic()
            answers = await asyncio.to_thread(strike, daemon, what)
            await ready(daemon)
            await flowing(readers, reading, time.monotonic())
            await asyncio.sleep(under_way_s)
            left = [now - earlier for now, earlier in zip(count(daemon), before, strict=True)]
            found.append(Break(answers, [reader.silence(begin) for reader in readers], left))
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    return found


async def ready(daemon: DaemonFixture) -> None:
    """Wait until the model is ready and there is a nursery again; deaths count anew, so that it is not given up."""
    until = time.monotonic() + PATIENCE_S
    async with Client(str(daemon.socket), timeout=PATIENCE_S) as client:
        while True:
            nursery: Any = (await client.call("status"))["nursery"]
            if (await client.show("warm")).state == "ready" and nursery["state"] == "ready":
                await client.load("warm")
                return
            if time.monotonic() > until:
                raise TimeoutError(f"not ready again; nursery: {nursery}")
            await asyncio.sleep(0.05)


async def flowing(readers: list[Reader], reading: "asyncio.Future[list[None]]", since: float) -> None:
    """Wait until text has come of every stream."""
    until = time.monotonic() + PATIENCE_S
    while not all(reader.times and reader.times[-1] > since for reader in readers):
        if reading.done():
            reading.result()
        if time.monotonic() > until:
            raise TimeoutError("not all streams go on")
        await asyncio.sleep(0.05)


async def undisturbed(path: str) -> str:
    """Return the answer that all get."""
    async with Client(path, timeout=PATIENCE_S) as client:
        return (await client.chat(PROMPT, max_tokens=TOKENS, temperature=0, ignore_eos=True)).text


def row(what: str, beside: int, found: list[Break], readers: list[Reader]) -> list[str]:
    """Return a line of the table: the worst of all breaks, and the median over all streams."""
    silent, goes_on = zip(*(pair for one in found for pair in one.silences), strict=True)
    return [
        what,
        str(beside),
        str(len(found)),
        f"{max(one.answers_s for one in found):.2f}" if what in BROKERS else "-",
        *(f"{value:.2f}" for times in (silent, goes_on) for value in (median(times), max(times))),
        str(sum(len(reader.wrong) for reader in readers)),
        str(sum(reader.resumed for reader in readers)),
        ", ".join(f"{max(one.left[at] for one in found):+.0f}" for at in range(3)),
    ]


def main() -> int:
    """Run it; returns the exit status, 1 when a text was wrong."""
    parser = options(__doc__)
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 14])
    parser.add_argument("--what", choices=WHAT, nargs="+", default=list(BROKERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one-group", action="store_true", help="all share the cores, process by process")
    args = parser.parse_args()
    rounds, under_way_s = (1, QUICK_S) if args.quick else (args.rounds, UNDER_WAY_S)
    record, rows, wrong = Record("kills", args.label), [], []
    record.begin("Kills under streams")
    names = ("all",) if args.one_group else ("daemon", "clients", "busy")
    with groups(*names) as made, tempfile.TemporaryDirectory(prefix="ingle-model-") as name:
        of_daemon, of_busy = ((), ()) if not made else (inside(made[0]), inside(made[-1]))
        if made:
            join(made[len(made) // 2])
        config = DAEMON + (ECHO if args.engine == "echo" else profile(Path(name), "warm", preload=True))
        daemon = as_installed(DaemonFixture(config, engine=args.engine, prefix=of_daemon))
        temporary = daemon.folder / "tmp"
        temporary.mkdir()
        daemon.environ["TMPDIR"] = str(temporary)
        with daemon:
            with Wire(daemon.socket) as client:
                client.call("load", model="warm")
            known = asyncio.run(undisturbed(str(daemon.socket)))
            for beside in args.busy:
                for what in args.what:
                    readers = [Reader(str(daemon.socket), known) for _ in range(args.streams)]
                    with busy(beside, of_busy):
                        found = asyncio.run(breaks(daemon, readers, what, rounds, under_way_s))
                    rows.append(row(what, beside, found, readers))
                    print(rows[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
                    wrong += [text for reader in readers for text in reader.wrong]
            daemon.stop()
            left = [f"process {pid}" for pid in daemon.processes()]
            left += [str(path) for path in Path(f"{daemon.socket}.d").rglob("*") if path.is_socket()]
            left += [str(path) for path in temporary.rglob("*")]
    where = f"a control group for each of: {', '.join(names)}" if made else "no control groups of their own"
    record.say(f"{args.streams} streams on {args.engine}, {where}: {len(wrong)} wrong texts {wrong[:5]}; "
               f"left when all had stopped: {', '.join(left) or 'nothing'}.")  # fmt: skip
    record.table("The worst of the times that something was broken, from then on:", HEAD, rows)
    record.data = {"rows": rows, "wrong": wrong, "left": left}
    if not args.quick:
        record.write()
    return 1 if wrong or left else 0


if __name__ == "__main__":
    sys.exit(main())
