"""A fuzz run on the public socket: what it costs the daemon, and what others notice of it.

    python -m bench.hostile [--seconds 30] [--seed N] [--attack NAME ...] [--rounds N] [--confine attackers worker]

Attackers send mutated valid messages, random bytes, HTTP, ZMTP 1.0, half-open and slow handshakes, truncated and
endless multiparts (each up to 1 MB), come and go by the hundred, and ask a thousand requests, or for 16 MB of answers,
that they never read: all by turns (`mixed`), or one kind alone; and, alone only, requests that are read (`greedy`), or
a hundred over each connection, which is closed at once (`fresh`). Another client asks `status` without pause, before
and during, and two processes that nobody attacks, which show how long the machine's cores are waited for: one that
answers after as much work as a `status` takes, and one that answers a byte at once. Prints inputs, the broker's memory,
what was dropped, the latencies, and how long broker and worker ran.

The attackers' own work is not to be measured: they run at the lowest priority (SCHED_IDLE). That holds among processes
that the kernel schedules in one group only, so everything here is put into one control group, where we may make one;
otherwise attackers take whole cores from a worker, which has a session, and so a group, of its own. `--confine` keeps
attackers, or them and the worker that they set to work, on the last core: the others are the daemon's.
"""

import contextlib
import multiprocessing
import os
import random
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ingle.wire.codec import pack
from ingle.zmtp import header
from ingled.testing import DaemonFixture, Wire

from bench.group import one_group
from bench.proc import busy_s, processes, tree
from bench.record import Record, options

GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"NULL".ljust(20, b"\0") + b"\0" * 32
READY = b"\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER"
VALID: list[dict[str, Any]] = [
    {"t": "hello", "protocol": [1, 1], "client": {"name": "x"}},
    {"t": "request", "ref": 1, "op": "chat", "body": {"messages": [{"role": "user", "content": "hi"}]}},
    {"t": "credit", "id": "x", "n": 4, "ack": 0},
    {"t": "cancel", "ref": 2, "id": "x"},
    {"t": "attach", "ref": 3, "id": "x", "offset": 0},
    {"t": "call", "ref": 4, "verb": "show", "args": {"model": "ember"}},
    {"t": "subscribe", "ref": 5, "topics": ["model"]},
]
ATTACKERS = 2
STUCK_S = 0.5
"""After so long an attacker of whom nothing is taken begins anew."""
START_S = 1.0
"""Until the attackers have started."""
SETTLE_S = 3.0
"""Half-open handshakes are closed after two seconds."""
Attack = Callable[[str, random.Random, Counter[str]], None]


def handshake(path: str) -> socket.socket:
    """Return a connection on which the daemon takes messages; earlier ones would end it."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(5)
    one.connect(path)
    one.sendall(GREETING + READY)
    got = b""
    while b"READY" not in got:
        if not (data := one.recv(4096)):
            raise ConnectionResetError
        got += data
    return one


def client(path: str) -> socket.socket:
    """Return a connection that has said hello, and gives up when nothing has been taken of it for `STUCK_S`."""
    one = handshake(path)
    one.settimeout(STUCK_S)
    say(one, VALID[0])
    return one


def say(one: socket.socket, message: dict[str, Any]) -> None:
    """Send one message. Raises TimeoutError when it is not taken in time."""
    data = pack(message)
    one.sendall(header(0, len(data)) + data)


def mutated(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """Valid messages with some bytes changed, and random ones."""
    with Wire(path) as client:
        for _ in range(500):
            data = bytearray(pack(chance.choice(VALID)))
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            client.send_bytes(bytes(data) if chance.random() < 0.8 else chance.randbytes(chance.randrange(500)))
            inputs["mutated or random messages"] += 1


def foreign(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """What is not this protocol at all."""
    junk = (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\x05\x00hello",
        GREETING[: chance.randrange(1, 64)],
        chance.randbytes(9999),
    )
    with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
        one.connect(path)
        one.sendall(chance.choice(junk))
        inputs["foreign connections"] += 1


def endless(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A multipart message of which no part is the last."""
    with contextlib.suppress(OSError), handshake(path) as one:
        for _ in range(100):
            one.sendall((b"\1\xff" + bytes(255)) * 40)
            inputs["parts of endless messages"] += 40


def truncated(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A good handshake, and then a message that breaks off in its header, in a frame, or before its last frame."""
    frame = b"\0\x20" + pack(VALID[0])[:32].ljust(32, b"\0")
    junk = chance.choice(
        (b"\1\5hello" + frame[:9], frame[:1], b"\2\0\0\0", b"\1\5hello", frame[: chance.randrange(34)])
    )
    for _ in range(20):
        with contextlib.suppress(OSError), handshake(path) as one:
            one.sendall(junk)
            inputs["truncated messages"] += 1


def half_open(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A hundred connections that say a part of their handshake, byte by byte, and then nothing."""
    many = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    said = (GREETING + READY)[: chance.randrange(10, 90)]
    for one in many:
        with contextlib.suppress(OSError):
            one.connect(path)
            for at in range(len(said)):
                one.send(said[at : at + 1])
            inputs["half-open connections"] += 1
    time.sleep(0.5)
    for one in many:
        one.close()


def clog(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """Calls whose answers are never read, until nothing more is taken."""
    with contextlib.suppress(OSError), client(path) as one:
        for ref in range(30_000):
            say(one, {"t": "call", "ref": ref, "verb": "models"})
            inputs["calls that are never read"] += 1


def crowd(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """Two hundred connections at once, closed without a word."""
    many = []
    with contextlib.suppress(OSError, TimeoutError):
        for _ in range(200):
            many.append(Wire(path))
    inputs["connections"] += len(many)
    for one in many:
        one.close()


def unread(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A thousand requests whose answers are never read, or as many as are taken."""
    with contextlib.suppress(OSError), client(path) as one:
        for ref in range(1000):
            say(one, VALID[1] | {"ref": ref, "stream": False})
            inputs["requests that are never read"] += 1


def greedy(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A thousand requests at once whose answers are read as they come."""
    with contextlib.suppress(OSError), client(path) as one:
        reader = threading.Thread(target=_drain, args=(one,))
        reader.start()
        try:
            for ref in range(1000):
                say(one, VALID[1] | {"ref": ref, "stream": False})
                inputs["requests that are read"] += 1
        finally:
            one.shutdown(socket.SHUT_RDWR)
            reader.join()


def _drain(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while select.select((one,), (), ())[0] and one.recv(1 << 16):
            pass


def fresh(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A hundred requests over a connection that is closed at once: the next hundred come over another one."""
    with contextlib.suppress(OSError), client(path) as one:
        for ref in range(100):
            say(one, VALID[1] | {"ref": ref, "stream": False})
            inputs["requests of connections that are closed at once"] += 1


def bystander(there: Any) -> None:
    """Answer like the daemon, after as much work as a `status` takes, but be attacked by nobody."""
    while there.recv():
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        there.send(True)


def ping(there: socket.socket) -> None:
    """Answer a byte at once: the least that any server can take."""
    fd = there.fileno()
    while os.read(fd, 1):
        os.write(fd, b"x")


@dataclass
class Seen:
    """What somebody else notices, in milliseconds, sorted; and the broker's MB in the course of it."""

    status: list[float]
    machine: list[float]
    """What a process that nobody attacks takes to answer after as much work: the wait for a core."""
    ping: list[float]
    """What one takes that answers a byte at once."""
    memory: list[float]


def watch(client: Wire, control: Any, bell: socket.socket, seconds: float) -> Seen:
    """Ask the daemon for its `status` and the two bystanders, in turn, without pause."""
    status, machine, pings, memory = [], [], [], []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.perf_counter()
        answer = client.call("status")
        status.append((time.perf_counter() - begin) * 1000)
        memory.append(answer["daemon"]["rss_bytes"] / 1e6)
        time.sleep(0.001)
        begin = time.perf_counter()
        control.send(True)
        control.recv()
        machine.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.001)
        begin = time.perf_counter()
        bell.send(b"x")
        bell.recv(1)
        pings.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.001)
    return Seen(sorted(status), sorted(machine), sorted(pings), memory)


def at(values: list[float], share: float) -> float:
    """Return the value below which this share of them is."""
    return values[int(len(values) * share)]


ATTACKS: list[Attack] = [mutated, foreign, foreign, foreign, endless, truncated, half_open, crowd, unread, clog]
"""By turns: `mixed`."""
ALONE: list[Attack] = [greedy, fresh]
NAMES = ("mixed", *dict.fromkeys(one.__name__ for one in (*ATTACKS, *ALONE)))


def attack(path: str, name: str, seed: int, seconds: float, confined: bool, out: Any) -> None:
    """Attack for so long, in a process of its own, and send what was thrown; `name` is one attack, or `mixed`."""
    # The machine's cores are few: what is measured is the daemon, not who gets a core.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if confined:
        os.sched_setaffinity(0, {last_core()})
    chance, inputs, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
    attacks = ATTACKS if name == "mixed" else [one for one in (*ATTACKS, *ALONE) if name == one.__name__]
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            chance.choice(attacks)(path, chance, inputs)
    out.send(inputs)


def last_core() -> int:
    """Return the core that is left to attackers."""
    return max(os.sched_getaffinity(0))


@dataclass
class Outcome:
    """One attack: what was thrown, and what was seen."""

    inputs: Counter[str]
    quiet: Seen
    busy: Seen
    mb: tuple[float, float]
    """The broker before, and when all is over."""
    dropped: dict[str, int]
    connections: int
    ran: dict[str, float]
    """Cores that broker, worker, and all that is not of the measurement were busy with; the last is a disturbance."""
    log: str

    def ratios(self, share: float) -> tuple[float, ...]:
        """Return how many times its quiet value this quantile is, of `status` and of the two that nobody attacks."""
        quiet, busy = self.quiet, self.busy
        both = ((quiet.status, busy.status), (quiet.machine, busy.machine), (quiet.ping, busy.ping))
        return tuple(at(after, share) / at(before, share) for before, after in both)

    def row(self, name: str) -> list[str]:
        """Return the attack's line of the table."""
        half, (most, machine, bell) = self.ratios(0.5)[0], self.ratios(0.99)
        quiet, busy = self.quiet.status, self.busy.status
        others = (self.quiet.machine, self.busy.machine), (self.quiet.ping, self.busy.ping)
        machine_ms, ping_ms = (f"{at(before, 0.99):.2f} -> {at(after, 0.99):.2f}" for before, after in others)
        return [
            name,
            f"{sum(self.inputs.values()):,}",
            f"{self.mb[0]:.0f}, {max(self.busy.memory):.0f}, {self.mb[1]:.0f}",
            f"{at(quiet, 0.5):.2f} -> {at(busy, 0.5):.2f}",
            f"{half:.1f}",
            f"{at(quiet, 0.99):.2f} -> {at(busy, 0.99):.2f}",
            f"{most:.1f}",
            machine_ms,
            f"{machine:.1f}",
            ping_ms,
            f"{bell:.1f}",
            ", ".join(f"{cores:.2f}" for cores in self.ran.values()),
        ]


HEAD = [
    "attack", "inputs", "broker MB: before, most, after", "status p50, ms", "times", "p99, ms", "times",
    "not attacked, p99", "times", "a byte, p99", "times", "cores: broker, worker, others",
]  # fmt: skip


def measure(
    name: str, seconds: float, seed: int, confine: Sequence[str] = (), environ: dict[str, str] | None = None
) -> Outcome:
    """Look at a fresh daemon that is left in peace, then attacked for so long."""
    inputs: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    control, there = context.Pipe()
    context.Process(target=bystander, args=(there,), daemon=True).start()
    bell, far = socket.socketpair()
    with far:
        context.Process(target=ping, args=(far,), daemon=True).start()
    with bell, DaemonFixture(environ=environ) as daemon, Wire(daemon.socket) as other:
        assert daemon.process is not None
        other.read(other.ask("warm"))
        broker, worker = daemon.process.pid, other.call("models")["models"][0]["pid"]
        if "worker" in confine:
            for thread in os.listdir(f"/proc/{worker}/task"):
                os.sched_setaffinity(int(thread), {last_core()})

        def cpu() -> dict[str, float]:
            everything = processes()
            ours = tree({os.getpid(), broker, *daemon.processes()}, everything)
            others = busy_s() - sum(process.cpu_s for process in ours)
            return {"broker": everything[broker].cpu_s, "worker": everything[worker].cpu_s, "others": others}

        quiet = watch(other, control, bell, min(5.0, seconds))
        before = other.call("status")
        pipes = [context.Pipe() for _ in range(ATTACKERS)]
        arguments = (str(daemon.socket), name)
        attackers = [
            context.Process(
                target=attack, args=(*arguments, seed + number, seconds + START_S, "attackers" in confine, there)
            )
            for number, (_, there) in enumerate(pipes)
        ]
        for attacker in attackers:
            attacker.start()
        time.sleep(START_S)
        begin, earlier = time.monotonic(), cpu()
        busy = watch(other, control, bell, seconds)
        passed = time.monotonic() - begin
        ran = {who: (now - earlier[who]) / passed for who, now in cpu().items()}
        for attacker, (here, _) in zip(attackers, pipes, strict=True):
            inputs += here.recv()
            attacker.join()
        time.sleep(SETTLE_S)
        after = other.call("status")
        log = daemon.log.read_text()
    control.send(False)
    before_mb, after_mb = (status["daemon"]["rss_bytes"] / 1e6 for status in (before, after))
    return Outcome(inputs, quiet, busy, (before_mb, after_mb), after["dropped"], after["connections"], ran, log)


def main() -> int:
    """Run it; returns the exit status, 1 when the daemon's log has a traceback."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--attack", choices=NAMES, nargs="+", default=["mixed"])
    parser.add_argument("--rounds", type=int, default=1, help="of each attack, with a seed of its own")
    parser.add_argument("--confine", choices=("attackers", "worker"), nargs="+", default=[], help="to the last core")
    args = parser.parse_args()
    record, seconds = Record("hostile", args.label), 4.0 if args.quick else args.seconds
    record.begin("Under attack")
    rows, ratios, tracebacks = [], dict[str, list[tuple[float, ...]]](), False
    with one_group() as grouped:
        where = "all in one control group" if grouped else "no control group of its own: attackers take cores"
        where += f"; on the last core alone: {', '.join(args.confine)}" if args.confine else ""
        record.say(f"{seconds:.0f} s of each, seed {args.seed}; {where}")
        for number in range(args.rounds):
            for name in args.attack:
                found = measure(name, seconds, args.seed + 1000 * number, args.confine)
                rows.append(found.row(name))
                ratios.setdefault(name, []).append(found.ratios(0.99))
                inputs = ", ".join(f"{count:,} {what}" for what, count in sorted(found.inputs.items()))
                record.say(f"{name}: {inputs}; dropped {found.dropped}, {found.connections} connections left")
                if "Traceback" in found.log:
                    tracebacks = True
                    print(found.log)
    record.table("", HEAD, rows)
    if args.rounds > 1:
        middle = [
            [name, *(f"{median(some):.1f}" for some in zip(*values, strict=True))] for name, values in ratios.items()
        ]
        record.table(
            "Median over the rounds, times the quiet p99:", ["attack", "status", "not attacked", "a byte"], middle
        )
    record.data = {"seed": args.seed, "ratios": ratios}
    if not args.quick:
        record.write()
    return 1 if tracebacks else 0


if __name__ == "__main__":
    sys.exit(main())
