"""A real daemon under random sequences of requests, readers, kills and restarts: one end each, and exact text.

The seed of a failing sequence is printed; `INGLE_SEED` runs that one alone, `INGLE_SEQUENCES` says how many. The seeds
are the same each time, unless `INGLE_RANDOM` is set.
"""

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from ingle import Client
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import group_members
from ingled.testing_model import profile

DAEMON = """
[daemon]
stuck = 2
adopt_grace = 20
keep = 120
drain = 1
"""
CONFIG = f"""{DAEMON}
[models.fast]
source = "builtin:ember"

[models.slow]
source = "builtin:ember"
echo = {{delay_ms = 1}}
"""
GRACE_MS = 30_000
DEADLINE_S = 120.0
FDS, MB = 60, 80
"""What an idle broker may have."""
LOST: Counter[str] = Counter()
"""Requests whose end nobody saw, by what happened before."""
BYE = b"\x81\xa1t\xa3bye"
SAMPLING: dict[str, Any] = {"max_tokens": 60, "temperature": 0, "ignore_eos": True}


@dataclass
class Asked:
    """What the test knows of a request."""

    id: str
    text: bytes
    model: str
    stream: bool
    detach: bool
    grace: bool
    reader: Wire | None
    credit: int
    """Chunks that may still come."""
    got: bytes = b""
    acked: int = 0
    end: dict[str, Any] | None = None
    may_end: set[str] = field(default_factory=set)
    """Codes with which it may fail; `lost`: its end may have gone to a connection that broke."""

    @property
    def waits(self) -> bool:
        """Its end cannot have been sent: text waits for credit."""
        return self.stream and self.credit == 0 and len(self.got) < len(self.text)


class Sequence:
    """One random sequence on a daemon that outlives it."""

    def __init__(self, daemon: DaemonFixture, seed: int, broker: bool, known: list[str] | None) -> None:
        """`broker`: the broker may die too; `known` are the answers of a model that does not echo."""
        self.daemon, self.chance, self.broker, self.known = daemon, random.Random(seed), broker, known
        self.models = ("fast",) if known else ("fast", "slow")
        self.shaky = False
        """A model may have been without its worker, so that requests waited for it."""
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
            one.credit -= 1
            assert one.credit >= 0, "a chunk without credit"
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
                n = self.chance.choice([0, 1, self.chance.randint(0, 32)])
                one.credit = min(256, one.credit + n)
                client.send({"t": "credit", "id": one.id, "n": n, "ack": one.acked})

    def answer(self, client: Wire, ref: int) -> dict[str, Any]:
        """Return the answer to a question; what comes before it is taken."""
        while True:
            message = client.receive(DEADLINE_S)
            if message.get("ref") == ref and message["t"] != "progress":
                return message
            self.take(client, message)

    # ------------------------------------------------------------ what may happen

    def ask(self) -> None:
        client, model = self.chance.choice(self.clients), self.chance.choice(self.models)
        stream, detach, grace = (self.chance.random() < share for share in (0.8, 0.2, 0.8))
        ref, credit = self.chance.randrange(1 << 30), self.chance.randint(0, 20)
        if self.known:
            index = self.chance.randrange(len(self.known))
            text, body = self.known[index], SAMPLING | {"messages": [{"role": "user", "content": question(index)}]}
        else:
            text = " ".join(f"w{self.chance.randrange(10**6)}ä" for _ in range(self.chance.randint(1, 120)))
            body = {"messages": [{"role": "user", "content": text}]}
        wish = {"t": "request", "ref": ref, "op": "chat", "model": model, "body": body, "stream": stream}
        wish |= {"credit": credit, "detach": detach, "grace_ms": GRACE_MS * grace}
        deadline = self.chance.random() < 0.1
        client.send(wish | ({"deadline_ms": self.chance.randint(1, 200)} if deadline else {}))
        message = self.answer(client, ref)
        assert message["t"] == "accepted", message
        one = Asked(message["id"], text.encode(), model, stream, detach, grace, client, credit)
        one.may_end |= {"deadline"} if deadline else set()
        self.asked.append(one)

    def subscribe(self) -> None:
        client, ref = self.chance.choice(self.clients), self.chance.randrange(1 << 30)
        topics = self.chance.choice([["request"], ["model", "request"], ["daemon"]])
        client.send({"t": "subscribe", "ref": ref, "topics": topics, "credit": self.chance.randint(0, 30)})
        message = self.answer(client, ref)
        assert message["t"] == "accepted", message
        if self.chance.random() < 0.3:
            client.send({"t": "cancel", "ref": ref + 1, "id": message["id"]})
            assert self.answer(client, ref + 1)["value"]["state"] == "subscribed"

    def attach(self, one: Asked, client: Wire) -> None:
        """Read on from what we have, on this connection."""
        ref = self.chance.randrange(1 << 30)
        before, got, waits = one.reader, one.got, one.waits
        one.got = one.got[: self.chance.randint(one.acked, len(one.got))].decode(errors="ignore").encode()
        one.reader = None  # what comes before `accepted` belongs to the earlier attach
        credit = self.chance.randint(1, 64)
        client.send({"t": "attach", "ref": ref, "id": one.id, "offset": len(one.got), "credit": credit})
        held: list[tuple[Wire, dict[str, Any]]] = []
        while (message := client.receive(DEADLINE_S)).get("ref") != ref:
            held.append((client, message))
        if message["t"] == "accepted":
            one.reader, one.acked, one.credit = client, max(one.acked, len(one.got)), credit
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
            assert self.shaky or one.may_end != {"lost"} or not (one.detach or waits), (message, one.detach, waits)
            one.end = message
            LOST[self.log[-1]] += 1

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

    def bye(self) -> None:
        self.lose(BYE)

    def lose(self, word: bytes = b"") -> None:
        """A connection breaks; its session is resumed on another, and its streams are taken up again."""
        index = self.chance.randrange(len(self.clients))
        old = self.clients[index]
        token = old.welcome["token"]
        if word:
            old.send_bytes(word)
        old.close()
        self.clients[index] = new = Wire(self.daemon.socket, hello={"token": token})
        for one in self.asked:
            if one.reader is old and one.end is None:
                one.may_end.add("lost")  # its end may have been on its way to the connection that broke
                one.may_end |= {"cancelled"} if word or not one.grace else set()
                self.attach(one, new)

    def load(self) -> None:
        client, model = self.chance.choice(self.clients), self.chance.choice(self.models)
        self.shaky = True
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
        self.shaky = True
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
            with contextlib.suppress(OSError):  # the end of the connection
                while True:
                    self.take(client, client.receive(DEADLINE_S))
            client.close()
        self.clients = [self.connect() for _ in self.clients]
        for one in self.asked:
            if one.end is None:
                one.may_end.add("lost")
                self.attach(one, self.chance.choice(self.clients))

    def connect(self) -> Wire:
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                return Wire(self.daemon.socket)
            time.sleep(0.01)
        raise TimeoutError("the daemon does not come back")

    # ------------------------------------------------------------ from begin to end

    def run(self) -> None:
        """Do random things, then read every request to its end."""
        steps: list[tuple[Callable[[], None], float]] = [
            (self.ask, 30), (self.cancel, 5), (self.move, 8), (self.lose, 5), (self.bye, 2), (self.load, 3),
            (self.subscribe, 3), (self.kill_worker, 1.5), (self.kill_nursery, 0.3), (self.renew_broker, 0.6),
        ][: None if self.broker else -1]  # fmt: skip
        with Wire(self.daemon.socket) as other:
            for model in self.models:
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


def question(index: int) -> str:
    return f"{index} tell me about the lamp"


def left(daemon: DaemonFixture) -> dict[str, Any]:
    """Return what the daemon still holds of the clients that left, and processes that it does not know of."""
    with Wire(daemon.socket) as client:
        status = client.call("status")
        known = {model["pid"] for model in client.call("models")["models"]} | {status["nursery"]["pid"]}
        states = {request["state"] for request in client.call("requests")["requests"]}
    assert daemon.process is not None
    broker = psutil.Process(daemon.process.pid)
    found = {
        "connections": status["connections"] - 1,
        "requests": states - {"kept"} or sum(status["requests"][key] for key in ("running", "queued", "ending")),
        "processes": daemon.processes() - known,
        "descriptors": broker.num_fds() > FDS and broker.num_fds(),
        "memory": broker.memory_info().rss > MB << 20 and broker.memory_info().rss,
    }
    return {name: value for name, value in found.items() if value}


def run_all(daemon: DaemonFixture, seeds: list[int], broker: bool = True, known: list[str] | None = None) -> None:
    """Run the sequences, stop the daemon, and see that nothing is left of it."""
    begin, groups = time.monotonic(), set[int]()
    LOST.clear()
    for count, seed in enumerate(seeds):
        sequence = Sequence(daemon, seed, broker, known)
        try:
            sequence.run()
            until = time.monotonic() + DEADLINE_S
            while found := left(daemon):
                assert time.monotonic() < until, f"left behind: {found}"
                time.sleep(0.01)
        except BaseException:
            print(f"sequence {count}: seed {seed}: {sequence.log}\n{daemon.log.read_text()[-3000:]}")
            raise
        groups |= daemon.processes()
    assert daemon.stop() == 0
    print(f"{len(seeds)} sequences in {time.monotonic() - begin:.0f} s; ends that nobody saw: {dict(LOST)}")
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.processes() == set()
    assert [group for group in groups if group_members(group)] == []
    files = {path.name for path in Path(f"{daemon.socket}.d").rglob("*") if path.is_file() or path.is_socket()}
    assert {name for name in files if ".log" not in name} <= {"ingled.lock"}


def seeds(count: int) -> list[int]:
    if "INGLE_SEED" in os.environ:
        return [int(os.environ["INGLE_SEED"])]
    chance = random.Random() if "INGLE_RANDOM" in os.environ else random.Random(20261125)
    return [chance.randrange(1 << 40) for _ in range(count)]


SEQUENCES = int(os.environ.get("INGLE_SEQUENCES", "1000"))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("broker", [True, False], ids=["broker dies too", "broker lives on"])
def test_a_thousand_random_sequences(broker: bool) -> None:
    with DaemonFixture(CONFIG) as daemon:
        run_all(daemon, seeds(SEQUENCES * 3 // 4 if broker else SEQUENCES // 4), broker=broker)


def test_some_random_sequences() -> None:
    with DaemonFixture(CONFIG) as daemon:
        run_all(daemon, seeds(25))


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_sequences_on_the_real_engine() -> None:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        config = DAEMON.replace("stuck = 2", "stuck = 10") + profile(Path(folder), "fast")
        with DaemonFixture(config, engine="vllm") as daemon:
            with Client(str(daemon.socket), timeout=120) as client:
                known = [client.chat(question(index), **SAMPLING).text for index in range(8)]
            run_all(daemon, seeds(SEQUENCES // 50), known=known)
