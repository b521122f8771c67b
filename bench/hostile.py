"""A fuzz run on the public socket: what it costs the daemon, and what others notice of it.

    python bench/hostile.py [--seconds 30] [--seed N]

Attackers send mutated valid messages, random bytes, HTTP, ZMTP 1.0, half-open and slow handshakes, truncated and
endless multiparts (each up to 1 MB), come and go by the hundred, and ask a thousand requests, or for 16 MB of answers,
that they never read. Another client asks `status` without pause, before and during, and a process that nobody attacks,
which shows how long the machine's cores are waited for. Prints inputs, the broker's memory in the course of the attack,
what was dropped, and the latencies.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingle.wire.codec import pack
from ingled.testing import DaemonFixture, Wire

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
Attack = Callable[[str, random.Random, Counter[str]], None]


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
    with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
        one.settimeout(5)
        one.connect(path)
        one.sendall(GREETING + READY + b"\1\xff" + bytes(255))
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
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.connect(path)
            one.sendall(GREETING + READY + junk)
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
    """Calls whose answers are never read, until the daemon closes the connection."""
    with Wire(path) as client, contextlib.suppress(OSError):
        for ref in range(30_000):
            client.send({"t": "call", "ref": ref, "verb": "models"})
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
    """A thousand requests whose answers are never read."""
    with Wire(path) as client, contextlib.suppress(OSError):
        for ref in range(1000):
            client.send(VALID[1] | {"ref": ref, "stream": False})
            inputs["requests that are never read"] += 1


def bystander(there: Any) -> None:
    """Answer like the daemon, after as much work as a `status` takes, but be attacked by nobody."""
    while there.recv():
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        there.send(True)


@dataclass
class Seen:
    """What somebody else notices, in milliseconds, sorted; and the broker's MB in the course of it."""

    status: list[float]
    machine: list[float]
    """What a process that nobody attacks takes to answer: the wait for a core."""
    memory: list[float]


def watch(client: Wire, control: Any, seconds: float) -> Seen:
    """Ask the daemon for its `status` and the bystander, in turn, without pause."""
    status, machine, memory = [], [], []
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
    return Seen(sorted(status), sorted(machine), memory)


def at(values: list[float], share: float) -> float:
    """Return the value below which this share of them is."""
    return values[int(len(values) * share)]


def attack(path: str, seed: int, seconds: float, out: Any) -> None:
    """Attack for so long, in a process of its own, and send what was thrown."""
    # The machine's cores are few: what is measured is the daemon, not who gets a core.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    chance, inputs, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
    attacks: list[Attack] = [mutated, foreign, foreign, foreign, endless, truncated, half_open, crowd, unread, clog]
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            chance.choice(attacks)(path, chance, inputs)
    out.send(inputs)


def run(seconds: float, seed: int) -> None:
    """Measure, attack, measure again, and print the figures; also the daemon's log, if it has a traceback."""
    print(f"seed {seed}, {seconds:.0f} s")
    inputs: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    control, there = context.Pipe()
    context.Process(target=bystander, args=(there,), daemon=True).start()
    with DaemonFixture() as daemon, Wire(daemon.socket) as other:
        other.read(other.ask("warm"))
        quiet = watch(other, control, min(5.0, seconds))
        before = other.call("status")
        pipes = [context.Pipe() for _ in range(ATTACKERS)]
        attackers = [
            context.Process(target=attack, args=(str(daemon.socket), seed + number, seconds, there))
            for number, (_, there) in enumerate(pipes)
        ]
        for attacker in attackers:
            attacker.start()
        busy = watch(other, control, seconds)
        for attacker, (here, _) in zip(attackers, pipes, strict=True):
            inputs += here.recv()
            attacker.join()
        time.sleep(3)  # half-open handshakes are closed after two seconds
        after = other.call("status")
        log = daemon.log.read_text()
    control.send(False)
    for name, count in sorted(inputs.items()):
        print(f"{name:<32}{count:>9}")
    rss = [status["daemon"]["rss_bytes"] / 1e6 for status in (before, after)]
    memory = busy.memory
    course = [max(memory[len(memory) * i // 8 : len(memory) * (i + 1) // 8]) for i in range(8)]
    print("broker, MB in each eighth of the attack:", *(f"{most:.0f}" for most in course))
    print(f"broker {rss[0]:.1f} -> {rss[1]:.1f} MB; dropped {after['dropped']}; connections {after['connections']}")
    for name, was, now in (
        ("status", quiet.status, busy.status),
        ("a process that is not attacked", quiet.machine, busy.machine),
    ):
        for share in (0.5, 0.99):
            one, other_one = at(was, share), at(now, share)
            print(f"{name}, p{share * 100:.0f}: {one:.2f} -> {other_one:.2f} ms (x {other_one / one:.1f})")
    if "Traceback" in log:
        print(log)


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = options.parse_args()
    run(args.seconds, args.seed)


if __name__ == "__main__":
    main()
