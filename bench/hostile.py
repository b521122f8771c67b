"""A fuzz run on the public socket: what it costs the daemon, and what others notice of it.

    python bench/hostile.py [--seconds 30]

Attackers send mutated valid messages, random bytes, HTTP, ZMTP 1.0, half-open handshakes, endless multiparts (each up
to 1 MB), come and go by the hundred, and ask a thousand requests that they never read. Another client asks `status`
without pause, before and during. Prints inputs, memory, what was dropped, and the other client's latencies.
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


def latencies(client: Wire, seconds: float) -> list[float]:
    """Ask `status` without pause; returns the milliseconds of each answer, sorted."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.perf_counter()
        client.call("status")
        found.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.002)
    return sorted(found)


def attack(path: str, seed: int, seconds: float, out: Any) -> None:
    """Attack for so long, in a process of its own, and send what was thrown."""
    os.nice(10)  # the machine's cores are few: what is measured is the daemon, not who gets a core
    chance, inputs, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
    attacks: list[Attack] = [mutated, foreign, foreign, foreign, endless, crowd, unread]
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            chance.choice(attacks)(path, chance, inputs)
    out.send(inputs)


def run(seconds: float) -> None:
    """Measure, attack, measure again, and print the figures; also the daemon's log, if it has a traceback."""
    inputs: Counter[str] = Counter()
    with DaemonFixture() as daemon, Wire(daemon.socket) as other:
        other.read(other.ask("warm"))
        quiet = latencies(other, min(5.0, seconds))
        before = other.call("status")
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(ATTACKERS)]
        attackers = [
            context.Process(target=attack, args=(str(daemon.socket), seed, seconds, there))
            for seed, (_, there) in enumerate(pipes)
        ]
        for attacker in attackers:
            attacker.start()
        busy = latencies(other, seconds)
        for attacker, (here, _) in zip(attackers, pipes, strict=True):
            inputs += here.recv()
            attacker.join()
        time.sleep(3)  # half-open handshakes are closed after two seconds
        after = other.call("status")
        log = daemon.log.read_text()
    for name, count in sorted(inputs.items()):
        print(f"{name:<32}{count:>9}")
    rss = [status["daemon"]["rss_bytes"] / 1e6 for status in (before, after)]
    p99 = [values[int(len(values) * 0.99)] for values in (quiet, busy)]
    print(f"broker {rss[0]:.1f} -> {rss[1]:.1f} MB; dropped {after['dropped']}; connections {after['connections']}")
    p50 = [values[len(values) // 2] for values in (quiet, busy)]
    print(f"status p50 {p50[0]:.2f} -> {p50[1]:.2f} ms")
    print(f"status p99 {p99[0]:.2f} -> {p99[1]:.2f} ms (x {p99[1] / p99[0]:.1f})")
    if "Traceback" in log:
        print(log)


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=30)
    run(options.parse_args().seconds)


if __name__ == "__main__":
    main()
