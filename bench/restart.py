"""How long streams stand still while one broker takes the place of another, on an idle machine and on a busy one.

    python -m bench.restart [--engine vllm] [--streams 50] [--busy 0 14] [--how kill replace] [--rounds 5] [--one-group]

Fifty clients read answers of a warm model without pause, each on a connection of its own. Then the broker is killed
with SIGKILL and started again at once, as a service manager would (`kill`), or `ingled --replace` takes over
(`replace`). Of each stream: the seconds from then until its text goes on: the end of its longest silence since.
`busy` processes beside do nothing but take turns. Where we may, the daemon, the clients and these have a control group
each, as services and sessions have under systemd; with `--one-group` all have one together, and each of the busy
processes as much as each of ours. Every text is compared with the undisturbed one.
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

from ingle.aio import Client
from ingled.testing import DaemonFixture, Wire
from ingled.testing_model import profile

from bench.group import groups, inside, join
from bench.record import Record, options

STREAMS = 50
TOKENS = 1000
PROMPT = "Tell me a long story about a fire."
ECHO = '[models.warm]\nsource = "builtin:ember"\npreload = true\necho = {delay_ms = 20}\n'
DAEMON = "[daemon]\nstuck = 60\nadopt_grace = 60\n\n"
UNDER_WAY_S = 3.0
"""For so long streams run before each change."""
PATIENCE_S = 60.0
HEAD = ["", "busy beside", "changes", "new broker answers, s", "streams go on: first", "median", "99 %", "last"]


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

    def silence(self, since: float) -> float | None:
        """Return when the longest silence since then ended, in seconds since then; None: no text has come."""
        before = max((at for at in self.times if at <= since), default=since)
        after = [at for at in self.times if at > since]
        ends = zip([before, *after], after, strict=False)
        longest = max(ends, key=lambda pair: pair[1] - pair[0], default=None)
        return None if longest is None else longest[1] - since


@dataclass
class Change:
    """One change of brokers."""

    answers_s: float
    goes_on_s: list[float]


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


def change(daemon: DaemonFixture, how: str) -> float:
    """Put another broker in the place of the one that runs; returns the seconds until it answers."""
    old = daemon.process
    assert old is not None
    begin = time.monotonic()
    if how == "kill":
        old.send_signal(signal.SIGKILL)
        old.wait()
        daemon.start()
    else:
        with daemon.log.open("ab") as out:
            daemon.process = subprocess.Popen(
                [*daemon.command, "--replace"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=daemon.environ
            )
        old.wait(PATIENCE_S)
    new = daemon.process
    assert new is not None
    while True:
        with contextlib.suppress(OSError), Wire(daemon.socket) as client:
            if client.call("status")["daemon"]["pid"] == new.pid:
                return time.monotonic() - begin
        if new.poll() is not None or time.monotonic() > begin + PATIENCE_S:
            raise RuntimeError(f"no new daemon:\n{daemon.log.read_text()}")
        time.sleep(0.005)  # nothing to wait on: its socket does not exist yet


async def changes(daemon: DaemonFixture, readers: list[Reader], how: str, rounds: int) -> list[Change]:
    """Change brokers again and again under streams."""
    found = []
    reading = asyncio.gather(*(reader.run() for reader in readers))
    try:
        for _ in range(rounds):
            for reader in readers:
                reader.times.clear()
            await flowing(readers, reading, time.monotonic())
            await asyncio.sleep(UNDER_WAY_S)
            begin = time.monotonic()
            answers = await asyncio.to_thread(change, daemon, how)
            await flowing(readers, reading, begin + answers)
            await asyncio.sleep(UNDER_WAY_S)
            found.append(Change(answers, sorted(reader.silence(begin) or PATIENCE_S for reader in readers)))
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    return found


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


def row(how: str, beside: int, found: list[Change]) -> list[str]:
    """Return a line of the table: the worst of all changes."""
    everything = sorted(at for one in found for at in one.goes_on_s)
    numbers = [
        max(one.answers_s for one in found),
        everything[0],
        median(everything),
        everything[int(len(everything) * 0.99)],
        everything[-1],
    ]
    return [how, str(beside), str(len(found)), *(f"{number:.2f}" for number in numbers)]


def main() -> int:
    """Run it; returns the exit status, 1 when a text was wrong."""
    parser = options(__doc__)
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 14])
    parser.add_argument("--how", choices=("kill", "replace"), nargs="+", default=["kill", "replace"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one-group", action="store_true", help="all share the cores, process by process")
    args = parser.parse_args()
    rounds = 1 if args.quick else args.rounds
    record, rows, wrong, resumed = Record("restart", args.label), [], [], 0
    record.begin("Another broker")
    names = ("all",) if args.one_group else ("daemon", "clients", "busy")
    with groups(*names) as made, tempfile.TemporaryDirectory(prefix="ingle-model-") as name:
        of_daemon, of_busy = ((), ()) if not made else (inside(made[0]), inside(made[-1]))
        if made:
            join(made[len(made) // 2])
        config = DAEMON + (ECHO if args.engine == "echo" else profile(Path(name), "warm", preload=True))
        with DaemonFixture(config, engine=args.engine, prefix=of_daemon) as daemon:
            with Wire(daemon.socket) as client:
                client.call("load", model="warm")
            known = asyncio.run(undisturbed(str(daemon.socket)))
            for beside in args.busy:
                for how in args.how:
                    readers = [Reader(str(daemon.socket), known) for _ in range(args.streams)]
                    with busy(beside, of_busy):
                        found = asyncio.run(changes(daemon, readers, how, rounds))
                    rows.append(row(how, beside, found))
                    print(rows[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
                    wrong += [text for reader in readers for text in reader.wrong]
                    resumed += sum(reader.resumed for reader in readers)
    where = f"a control group for each of: {', '.join(names)}" if made else "no control groups of their own"
    record.say(f"{args.streams} streams on {args.engine}, {rounds} changes each, {where}: {len(wrong)} wrong texts "
               f"{wrong[:5]}, {resumed} resumed by a worker.")  # fmt: skip
    record.table("Seconds from the kill, or from the new one's start; of all changes:", HEAD, rows)
    record.data = {"rows": rows, "wrong": wrong}
    if not args.quick:
        record.write()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
