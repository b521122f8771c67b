"""Attacks on the public socket: what they cost the daemon, and what others notice of them.

    python -m bench.hostile [--attack NAME ...] [--set-up both confined] [--rounds N] [--seconds N] [--seed N]

Attackers send mutated valid messages, random bytes, HTTP, ZMTP 1.0, half-open and slow handshakes, truncated and
endless multiparts (each up to 1 MB), come and go by the hundred, and ask a thousand requests, or for 16 MB of answers,
that they never read: all by turns (`mixed`), or one kind alone; and, alone only, requests that are read (`greedy`),
a hundred over each connection, which is closed at once (`fresh`), or one after the other over each of a hundred
connections (`many`). `burn` attacks nobody and keeps the cores busy: what `status` takes then is the kernel's doing,
and the rest of what it takes under another attack is the daemon's.

Another client asks `status` without pause, and at times a process that nobody attacks and that answers after as much
work. All is measured on one daemon, in rounds: a quiet time before each attack, and each attack in each set-up,
`both` (everybody may use all cores) or `confined` (attackers have the last core alone). The samples of all rounds are
pooled, for p99 is a matter of few of them, and the ratios are of pooled values; the spread of the rounds stands beside.

The attackers' own work is not to be measured: they run at the lowest priority (SCHED_IDLE). That holds among processes
that the kernel schedules in one group only, so everything here is put into one control group, where we may make one;
otherwise attackers take whole cores from a worker, which has a session, and so a group, of its own.
"""

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ingled.testing import DaemonFixture, Wire

from bench.attacks import NAMES, Attackers, burn, last_core
from bench.group import one_group
from bench.proc import busy_s, processes, tree
from bench.record import Record, options

START_S = 0.3
"""Until an attack is under way."""
SETTLE_S = 0.2
"""After the last trace of an attack has gone."""
WORK_S = 0.0001
"""Seconds of work that a `status` is for the daemon."""
SLOWEST = 0.02
"""The share of answers of which it is told where their time went."""
DEFAULT = ["mixed", "foreign", "unread", "fresh", "burn"]
SET_UPS: dict[str, Callable[[], set[int]]] = {
    "both": lambda: os.sched_getaffinity(0),
    "confined": lambda: {last_core()},
}
"""By name, the cores that attackers may use."""


def bystander(there: Any) -> None:
    """Answer after as much work as a `status` takes, but be attacked by nobody."""
    while there.recv():
        until = time.perf_counter() + WORK_S
        while time.perf_counter() < until:
            pass
        there.send(True)


@dataclass(frozen=True)
class Answer:
    """One `status`: what it took, and what broker and client did meanwhile, in milliseconds."""

    took: float
    broker_ran: float
    broker_waited: float
    """For a core, while it had something to do."""
    client_waited: float


class Thread:
    """The kernel's counts of the first thread of a process: how long it ran, and waited for a core, in ms."""

    def __init__(self, pid: int) -> None:
        self._fd = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY)

    def read(self) -> tuple[float, float]:
        """Return both."""
        ran, waited, _ = os.pread(self._fd, 100, 0).split()
        return int(ran) / 1e6, int(waited) / 1e6

    def close(self) -> None:
        """Forget it."""
        os.close(self._fd)


@dataclass
class Seen:
    """What somebody else notices, in one stretch of time, in milliseconds."""

    answers: list[Answer] = field(default_factory=list)
    machine: list[float] = field(default_factory=list)
    """What a process that nobody attacks takes to answer after as much work."""
    memory: list[float] = field(default_factory=list)
    """The broker's MB."""

    @property
    def status(self) -> list[float]:
        """Return what each `status` took."""
        return [one.took for one in self.answers]


@dataclass
class Attacked:
    """One attack in one set-up: by round, what was seen; and what was thrown, in all."""

    seen: list[Seen] = field(default_factory=list)
    inputs: Counter[str] = field(default_factory=Counter)
    ran: dict[str, float] = field(default_factory=dict)
    """CPU seconds of broker, worker, and of all that is not of the measurement; the last is a disturbance."""
    seconds: float = 0.0


class Arena:
    """A daemon, somebody who asks for its `status`, and attackers."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self._daemon = DaemonFixture(environ=environ)

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._control, there = context.Pipe()
        context.Process(target=bystander, args=(there,), daemon=True).start()
        self._daemon.__enter__()
        self._client = Wire(self._daemon.socket)
        self._client.read(self._client.ask("warm"))
        assert self._daemon.process is not None
        self._broker = self._daemon.process.pid
        self._worker = self._client.call("models")["models"][0]["pid"]
        self._threads = Thread(self._broker), Thread(os.getpid())
        self._attackers = Attackers(str(self._daemon.socket)).__enter__()
        self.mb = self.status()["daemon"]["rss_bytes"] / 1e6
        """The broker's, before all attacks."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._attackers.__exit__(kind, error, trace)
        self._control.send(False)
        for thread in self._threads:
            thread.close()
        self._client.close()
        self._daemon.__exit__(kind, error, trace)

    def status(self) -> Any:
        """Return what the daemon says of itself."""
        return self._client.call("status")

    @property
    def log(self) -> str:
        """Return what the daemon has written."""
        return self._daemon.log.read_text()

    def watch(self, seconds: float) -> Seen:
        """Ask the daemon for its `status`, and every fourth time the one that nobody attacks, without pause."""
        seen, (broker, client) = Seen(), self._threads
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            broker_before, client_before = broker.read(), client.read()
            begin = time.perf_counter()
            answer = self._client.call("status")
            took = (time.perf_counter() - begin) * 1000
            ran, waited = (after - before for after, before in zip(broker.read(), broker_before, strict=True))
            seen.answers.append(Answer(took, ran, waited, client.read()[1] - client_before[1]))
            seen.memory.append(answer["daemon"]["rss_bytes"] / 1e6)
            time.sleep(0.001)
            if not (number := number + 1) % 4:
                begin = time.perf_counter()
                self._control.send(True)
                self._control.recv()
                seen.machine.append((time.perf_counter() - begin) * 1000)
                time.sleep(0.001)
        return seen

    def attack(self, name: str, seconds: float, seed: int, set_up: str, out: Attacked) -> None:
        """Watch the daemon while it is attacked, and wait until nothing is left of the attack."""
        self._attackers.begin(name, seed, seconds + START_S, SET_UPS[set_up]())
        time.sleep(START_S)
        begin, before = time.monotonic(), self._cpu()
        out.seen.append(self.watch(seconds))
        out.seconds += time.monotonic() - begin
        for who, now in self._cpu().items():
            out.ran[who] = out.ran.get(who, 0.0) + now - before[who]
        out.inputs += self._attackers.end()
        while self._busy():
            time.sleep(0.05)
        time.sleep(SETTLE_S)

    def _busy(self) -> bool:
        status = self.status()
        return status["connections"] > 1 or any(status["requests"][stage] for stage in ("running", "queued", "ending"))

    def _cpu(self) -> dict[str, float]:
        everything = processes()
        ours = tree({os.getpid(), self._broker, *self._daemon.processes()}, everything)
        others = busy_s() - sum(process.cpu_s for process in ours)
        return {"broker": everything[self._broker].cpu_s, "worker": everything[self._worker].cpu_s, "others": others}


def at(values: list[float], share: float) -> float:
    """Return the value below which this share of them is."""
    return sorted(values)[int(len(values) * share)]


def pooled(some: list[Seen]) -> Seen:
    """Return what was seen in all rounds."""
    whole = Seen()
    for one in some:
        whole.answers += one.answers
        whole.machine += one.machine
        whole.memory += one.memory
    return whole


def spread(some: list[Seen], share: float = 0.99) -> str:
    """Return this quantile of `status` over all rounds, and of the rounds the least and the most."""
    each = [at(one.status, share) for one in some]
    return f"{at(pooled(some).status, share):.2f} ({min(each):.2f}..{max(each):.2f})"


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def slowest(seen: Seen) -> str:
    """Return where the time of the slowest answers went, in means."""
    some = sorted(seen.answers, key=lambda one: one.took)[-max(1, int(len(seen.answers) * SLOWEST)) :]
    parts = [[getattr(one, name) for one in some] for name in ("took", "broker_ran", "broker_waited", "client_waited")]
    return ", ".join(f"{mean(part):.2f}" for part in parts)


HEAD = [
    "attack", "attackers on", "inputs", "p50 ms", "p99 ms (rounds)", "of quiet p99", "not attacked, of quiet",
    "slowest 2 %: took, broker ran, waited, client waited", "cores: broker, worker, others", "broker MB",
]  # fmt: skip


def row(name: str, set_up: str, found: Attacked, quiet: Seen) -> list[str]:
    """Return the line of one attack in one set-up."""
    seen = pooled(found.seen)
    return [
        name,
        set_up,
        f"{sum(found.inputs.values()):,}",
        f"{at(seen.status, 0.5):.2f}",
        spread(found.seen),
        f"{at(seen.status, 0.99) / at(quiet.status, 0.99):.1f}",
        f"{at(seen.machine, 0.99) / at(quiet.machine, 0.99):.1f}",
        slowest(seen),
        ", ".join(f"{cpu / found.seconds:.2f}" for cpu in found.ran.values()),
        f"{max(seen.memory):.0f}",
    ]


def main() -> int:
    """Run it; returns the exit status, 1 when the daemon's log has a traceback."""
    parser = options(__doc__)
    parser.add_argument("--attack", choices=NAMES, nargs="+", default=DEFAULT)
    parser.add_argument("--set-up", choices=list(SET_UPS), nargs="+", default=list(SET_UPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each attack in each round")
    parser.add_argument("--quiet", type=float, default=1.0, help="seconds of peace before each")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.quiet = 1, 3.0, 0.5
    record = Record("hostile", args.label)
    record.begin("Under attack")
    found = {(name, set_up): Attacked() for name in args.attack for set_up in args.set_up}
    quiet: list[Seen] = []
    with one_group() as grouped, Arena() as arena:
        where = "all in one control group" if grouped else "no control group of its own: attackers take cores"
        record.say(f"{args.rounds} rounds of {args.seconds:.0f} s of each, seed {args.seed}; {where}")
        for number in range(args.rounds):
            for (name, set_up), out in found.items():
                quiet.append(arena.watch(args.quiet))
                arena.attack(name, args.seconds, args.seed + 1000 * number, set_up, out)
        status, log = arena.status(), arena.log
    peace = pooled(quiet)
    record.say(
        f"Quiet: p50 {at(peace.status, 0.5):.2f} ms, p99 {spread(quiet)}; not attacked {at(peace.machine, 0.99):.2f}; "
        f"slowest 2 %: {slowest(peace)}"
    )
    record.table("", HEAD, [row(name, set_up, out, peace) for (name, set_up), out in found.items()], 2)
    for name in args.attack:
        if name == burn.__name__:
            continue
        inputs = sum((found[name, set_up].inputs for set_up in args.set_up), Counter[str]())
        record.say(f"{name}: " + ", ".join(f"{count:,} {what}" for what, count in sorted(inputs.items())))
    record.say(
        f"Broker: {arena.mb:.0f} MB before, {status['daemon']['rss_bytes'] / 1e6:.0f} after; "
        f"dropped {status['dropped']}, {status['connections']} connections left"
    )
    record.data = {
        "seed": args.seed,
        "quiet_ms": [at(one.status, 0.99) for one in quiet],
        "p99_ms": {" ".join(key): [at(one.status, 0.99) for one in out.seen] for key, out in found.items()},
    }
    if not args.quick:
        record.write()
    if "Traceback" in log:
        print(log)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
