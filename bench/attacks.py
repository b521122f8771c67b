"""Attacks on the public socket, and the processes that make them."""

import contextlib
import multiprocessing
import os
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ingle.wire.codec import pack
from ingle.zmtp import header
from ingled.testing import Wire

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
STUCK_S = 0.5
"""After so long an attacker of whom nothing is taken begins anew."""
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


def ask(one: socket.socket, number: int, inputs: Counter[str], kind: str) -> None:
    """Send so many requests, as many as are taken in time, and count them as of this kind. Raises TimeoutError."""
    for ref in range(number):
        say(one, VALID[1] | {"ref": ref, "stream": False})
        inputs[kind] += 1


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
        ask(one, 1000, inputs, "requests that are never read")


def greedy(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A thousand requests at once whose answers are read as they come."""
    with contextlib.suppress(OSError), client(path) as one:
        reader = threading.Thread(target=_drain, args=(one,))
        reader.start()
        try:
            ask(one, 1000, inputs, "requests that are read")
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
        ask(one, 100, inputs, "requests of connections that are closed at once")


def many(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """A hundred connections, of which each asks one thing after the other and reads its answers: none is a flood."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        ones = [stack.enter_context(client(path)) for _ in range(100)]
        for one in ones:
            say(one, VALID[1] | {"stream": False})
        for _ in range(1000):
            for one in select.select(ones, (), (), STUCK_S)[0]:
                if b"done" in one.recv(1 << 16):
                    say(one, VALID[1] | {"stream": False})
                    inputs["requests, one after the other over each of many connections"] += 1


def burn(path: str, chance: random.Random, inputs: Counter[str]) -> None:
    """Attack nobody, and keep a core busy: what that alone does to others is no doing of the daemon."""
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass


ATTACKS: list[Attack] = [mutated, foreign, foreign, foreign, endless, truncated, half_open, crowd, unread, clog]
"""By turns: `mixed`."""
ALONE: list[Attack] = [greedy, fresh, many, burn]
NAMES = ("mixed", *dict.fromkeys(one.__name__ for one in (*ATTACKS, *ALONE)))


def last_core() -> int:
    """Return the core that is left to attackers."""
    return max(os.sched_getaffinity(0))


class Attackers:
    """Processes that attack when they are told to, and rest meanwhile."""

    COUNT = 2

    def __init__(self, path: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        for _ in range(self.COUNT):
            here, there = context.Pipe()
            self._pipes.append(here)
            self._processes.append(context.Process(target=_serve, args=(path, there), daemon=True))

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        for pipe in self._pipes:
            pipe.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()

    def begin(self, name: str, seed: int, seconds: float, cores: set[int]) -> None:
        """Have all attack for so long, on these cores alone."""
        for number, pipe in enumerate(self._pipes):
            pipe.send((name, seed + number, seconds, cores))

    def end(self) -> Counter[str]:
        """Wait until all have ended, and return what was thrown."""
        return sum((pipe.recv() for pipe in self._pipes), Counter[str]())


def _serve(path: str, pipe: Any) -> None:
    # What is measured is the daemon, not who of those that want a core gets it.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    pipe.send(True)
    while (order := pipe.recv()) is not None:
        name, seed, seconds, cores = order
        os.sched_setaffinity(0, cores)
        chance, inputs, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
        attacks = ATTACKS if name == "mixed" else [one for one in (*ATTACKS, *ALONE) if name == one.__name__]
        while time.monotonic() < until:
            with contextlib.suppress(OSError, TimeoutError, RuntimeError):
                chance.choice(attacks)(path, chance, inputs)
        pipe.send(inputs)
