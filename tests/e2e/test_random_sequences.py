"""A real daemon under random sequences of requests, readers, kills and restarts: one end each, and exact text.

The seed of a failing sequence is printed; `INGLE_SEED` runs that one alone, `INGLE_SEQUENCES` says how many.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from ingled.testing import DaemonFixture, Wire

CONFIG = """
[daemon]
stuck = 2
adopt_grace = 20
keep = 60
drain = 1

[models.fast]
source = "builtin:ember"

[models.slow]
source = "builtin:ember"
echo = {delay_ms = 1}
"""
MODELS = ("fast", "slow")
GRACE_MS = 30_000
DEADLINE_S = 60.0


@dataclass
class Asked:
    """What the test knows of a request."""

    id: str
    text: bytes
    model: str
    stream: bool
    detach: bool
    reader: Wire | None
    got: bytes = b""
    acked: int = 0
    end: dict[str, Any] | None = None
    may_end: set[str] = field(default_factory=set)
    """Codes with which it may fail."""


class Sequence:
    """One random sequence on a daemon that outlives it."""

    def __init__(self, daemon: DaemonFixture, seed: int) -> None:
        self.daemon, self.chance = daemon, random.Random(seed)
        self.clients = [Wire(daemon.socket) for _ in range(self.chance.randint(1, 3))]
        self.asked: list[Asked] = []
        self.log: list[str] = []

    # ------------------------------------------------------------ messages

    def take(self, client: Wire, message: dict[str, Any]) -> None:
        """Take one message in: text in its place, one end, nothing behind it."""
        one = next((one for one in self.asked if one.id == message.get("id")), None)
        if one is None or message["t"] not in ("chunk", "done", "failed"):
            return
        if one.reader is not client:
            # A kept answer may have been delivered here before somebody else attached to it.
            assert message.get("code") == "conflict" or message["t"] == "chunk" or one.detach, message
            return
        assert one.end is None, f"{message} behind {one.end}"
        if message["t"] == "chunk":
            data = message["x"].encode()
            assert message["o"] == len(one.got), (message, len(one.got))
            one.got += data
            assert one.text.startswith(one.got), (one.text[:80], one.got[-80:])
            return
        one.end = message
        if message["t"] == "done":
            whole = one.got if one.stream else message["result"]["text"].encode()
            assert whole == one.text, (len(whole), len(one.text))
        else:
            assert message["code"] in one.may_end, message

    def pump(self, client: Wire, seconds: float) -> None:
        """Read for a while, and give credit now and then."""
        until = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while (left := until - time.monotonic()) > 0:
                self.take(client, client.receive(left))
        for one in self.asked:
            if one.reader is client and one.end is None:
                ack = one.got[: self.chance.randint(one.acked, len(one.got))].decode(errors="ignore").encode()
                one.acked = max(one.acked, len(ack))
                client.send({"t": "credit", "id": one.id, "n": self.chance.randint(0, 32), "ack": one.acked})

    def answer(self, client: Wire, ref: int) -> dict[str, Any]:
        """Return the answer to a question; what comes before it is taken."""
        while True:
            message = client.receive(DEADLINE_S)
            if message.get("ref") == ref and message["t"] != "progress":
                return message
            self.take(client, message)

    # ------------------------------------------------------------ what may happen

    def ask(self) -> None:
        client, model = self.chance.choice(self.clients), self.chance.choice(MODELS)
        words = [f"w{self.chance.randrange(10**6)}ä" for _ in range(self.chance.randint(1, 120))]
        text, stream, detach = " ".join(words), self.chance.random() < 0.8, self.chance.random() < 0.2
        ref = self.chance.randrange(1 << 30)
        body = {"messages": [{"role": "user", "content": text}]}
        client.send({"t": "request", "ref": ref, "op": "chat", "model": model, "body": body, "stream": stream,
                     "credit": self.chance.randint(0, 20), "detach": detach, "grace_ms": GRACE_MS})  # fmt: skip
        message = self.answer(client, ref)
        assert message["t"] == "accepted", message
        self.asked.append(Asked(message["id"], text.encode(), model, stream, detach, client))

    def attach(self, one: Asked, client: Wire) -> None:
        """Read on from what we have, on this connection."""
        ref = self.chance.randrange(1 << 30)
        before, got = one.reader, one.got
        one.got = one.got[: self.chance.randint(one.acked, len(one.got))].decode(errors="ignore").encode()
        one.reader = None  # what comes before `accepted` belongs to the earlier attach
        credit = self.chance.randint(1, 64)
        client.send({"t": "attach", "ref": ref, "id": one.id, "offset": len(one.got), "credit": credit})
        held: list[tuple[Wire, dict[str, Any]]] = []
        while (message := client.receive(DEADLINE_S)).get("ref") != ref:
            held.append((client, message))
        if message["t"] == "accepted":
            one.reader, one.acked = client, max(one.acked, len(one.got))
            for at, other in held:
                if other.get("id") != one.id:
                    self.take(at, other)
            return
        assert message["code"] == "no_such_request", message
        one.reader, one.got = before, got
        for at, other in held:
            self.take(at, other)
        if one.end is None and before not in self.clients:
            # It was delivered to a connection that has gone, or waited for its model when the daemon died.
            assert one.may_end, message
            one.end = message

    def cancel(self) -> None:
        if self.asked:
            one, client = self.chance.choice(self.asked), self.chance.choice(self.clients)
            one.may_end.add("cancelled")
            ref = self.chance.randrange(1 << 30)
            client.send({"t": "cancel", "ref": ref, "id": one.id})
            assert self.answer(client, ref)["t"] in ("result", "failed")

    def move(self) -> None:
        alive = [one for one in self.asked if one.end is None]
        if alive:
            self.attach(self.chance.choice(alive), self.chance.choice(self.clients))

    def lose(self) -> None:
        """A connection breaks; its session is resumed on another, and its streams are taken up again."""
        index = self.chance.randrange(len(self.clients))
        old = self.clients[index]
        token = old.welcome["token"]
        old.close()
        self.clients[index] = new = Wire(self.daemon.socket, hello={"token": token})
        for one in self.asked:
            if one.reader is old and one.end is None:
                one.may_end.add("lost")  # its end may have been on its way to the connection that broke
                self.attach(one, new)

    def load(self) -> None:
        client, model = self.chance.choice(self.clients), self.chance.choice(MODELS)
        verb = self.chance.choice(["load", "unload"])
        if verb == "unload":
            for one in self.asked:
                if one.model == model:
                    one.may_end.add("cancelled")
        args: dict[str, Any] = {"model": model} | ({"force": True} if verb == "unload" else {"wait": False})
        ref = self.chance.randrange(1 << 30)
        client.send({"t": "call", "ref": ref, "verb": verb, "args": args})
        assert self.answer(client, ref)["t"] == "result"

    def kill_worker(self) -> None:
        with Wire(self.daemon.socket) as other:
            pids = [model["pid"] for model in other.call("models")["models"] if model["state"] == "ready"]
        for one in self.asked:
            one.may_end |= {"worker_died", "load_failed"}  # after too many deaths in a row
        if pids:
            number = signal.SIGSTOP if self.chance.random() < 0.1 else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(pids), number)

    def kill_nursery(self) -> None:
        with Wire(self.daemon.socket) as other:
            pid = other.call("status")["nursery"]["pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def renew_broker(self) -> None:
        """The broker dies or is replaced; everybody comes back."""
        daemon = self.daemon
        assert daemon.process is not None
        if self.chance.random() < 0.5:
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait()
            daemon.start()
        else:
            old = daemon.process
            with daemon.log.open("ab") as out:
                command = [*daemon.command, "--replace"]
                daemon.process = subprocess.Popen(
                    command, stdout=out, stderr=out, env=daemon.environ, cwd=daemon.folder
                )
            assert old.wait(DEADLINE_S) == 0
        for client in self.clients:
            client.close()
        self.clients = [self.connect() for _ in self.clients]
        for one in self.asked:
            if one.end is None:
                one.may_end.add("lost")
                self.attach(one, self.chance.choice(self.clients))

    def connect(self) -> Wire:
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                return Wire(self.daemon.socket)
            except OSError:
                assert time.monotonic() < until, "the daemon does not come back"
                time.sleep(0.01)

    # ------------------------------------------------------------ from begin to end

    def run(self) -> None:
        """Do random things, then read every request to its end."""
        steps: list[tuple[Callable[[], None], float]] = [
            (self.ask, 30), (self.cancel, 5), (self.move, 8), (self.lose, 6), (self.load, 3),
            (self.kill_worker, 1.5), (self.kill_nursery, 0.3), (self.renew_broker, 0.6),
        ]  # fmt: skip
        with Wire(self.daemon.socket) as other:
            for model in MODELS:
                other.call("load", model=model)  # also forgets the deaths of earlier sequences
        self.ask()
        for _ in range(self.chance.randint(3, 12)):
            step = self.chance.choices([step for step, _ in steps], [weight for _, weight in steps])[0]
            self.log.append(step.__name__)
            step()
            self.pump(self.chance.choice(self.clients), self.chance.choice([0.0, 0.0, 0.01]))
        until = time.monotonic() + DEADLINE_S
        while alive := [one for one in self.asked if one.end is None]:
            assert time.monotonic() < until, f"no end of {[(one.id, one.model, len(one.got)) for one in alive]}"
            for client in self.clients:
                self.pump(client, 0.005)
        for client in self.clients:
            client.send({"t": "bye"})
            client.close()


def settled(daemon: DaemonFixture) -> bool:
    """Return whether the daemon holds nothing of the clients that left."""
    with Wire(daemon.socket) as client:
        status = client.call("status")
        states = [request["state"] for request in client.call("requests")["requests"]]
        return status["connections"] == 1 and set(states) <= {"kept"}


def some(count: int) -> list[int]:
    """Return seeds: the same ones each time, unless INGLE_RANDOM is set."""
    chance = random.Random() if "INGLE_RANDOM" in os.environ else random.Random(20261125)
    return [chance.randrange(1 << 40) for _ in range(count)]


def descriptors(daemon: DaemonFixture) -> int:
    assert daemon.process is not None
    return psutil.Process(daemon.process.pid).num_fds()


def run_sequences(daemon: DaemonFixture, seeds: list[int]) -> None:
    for count, seed in enumerate(seeds):
        sequence = Sequence(daemon, seed)
        try:
            sequence.run()
            until = time.monotonic() + DEADLINE_S
            while not settled(daemon):
                assert time.monotonic() < until, "something of this sequence is left"
                time.sleep(0.01)
        except BaseException:
            print(f"sequence {count}: seed {seed}: {sequence.log}\n{daemon.log.read_text()[-3000:]}")
            raise
    assert "Traceback" not in daemon.log.read_text()
    assert descriptors(daemon) < 60


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_random_sequences() -> None:
    if "INGLE_SEED" in os.environ:
        seeds = [int(os.environ["INGLE_SEED"])]
    else:
        seeds = some(int(os.environ.get("INGLE_SEQUENCES", "300")))
    begin = time.monotonic()
    with DaemonFixture(CONFIG) as daemon:
        run_sequences(daemon, seeds)
        assert daemon.process is not None
        children = psutil.Process(daemon.process.pid).children(recursive=True)
        print(f"{len(seeds)} sequences in {time.monotonic() - begin:.0f} s")
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_some_random_sequences() -> None:
    with DaemonFixture(CONFIG) as daemon:
        run_sequences(daemon, some(25))
