"""A person asks while somebody else has 500 batch requests in the queue; and what two equal accounts get over time.

    python -m bench.fairness [--quick] [--shape tiny] [--places 16] [--prompt short] [--seconds 300] [--engine vllm]

Needs root, to be two users. The first table is of vLLM: the time to the first token of one who asks a question, reads,
and asks the next, alone (`quiet`), and with the batch of another account waiting, on the daemon as it is and on one
that gives all requests to the engine at once (`first come`). In the second one account wants short answers and one long
ones, both more than they get, of vLLM too, or of the echo engine with eight places, which makes a token in 20 ms. It
counts from when both have all their requests open, and says how often one of them had nothing waiting for a moment: who
has not is lifted to the others, and what it gets no longer tells of turns, but of how fast this client asks.
"""

import os
import select
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingle.wire.codec import pack, unpack
from ingle.zmtp import Dealer
from ingled.core.fairness import ANSWER, PROMPT
from ingled.testing import DaemonFixture

from bench.contenders import ingle_environment
from bench.load import Load
from bench.record import Record, options
from bench.shapes import NAME, TINY, make
from bench.spread import percentile

BATCH, PERSON = 65534, 65533
RULES = f"""
[daemon]
queue = 100000
[[rules]]
accounts = ["uid:{BATCH}"]
priority = "batch"
open_requests = 100000
[[rules]]
accounts = ["uid:{PERSON}"]
priority = "interactive"
"""
EQUALS = """
[daemon]
queue = 100000
[[rules]]
accounts = ["*"]
open_requests = 100000
"""
ECHO_PLACES = 8
ECHO = f"""
[models.bench]
source = "/none"
max_sequences = {ECHO_PLACES}
echo = {{delay_ms = 20}}
"""
WANTED = 512
"""Requests that each of two equal accounts has open: more than the engine ends while this client is busy elsewhere."""
WINDOW = 256
QUESTION_TOKENS, BATCH_TOKENS = 16, 128
SILENCE_S = 120.0


@dataclass
class Asked:
    """A request, and what has come of it."""

    at: float
    first: float = 0.0
    pieces: int = 0
    prompt: int = 0
    tokens: int = 0
    over: bool = False


@dataclass
class User:
    """A connection of a user, with any number of requests at once; each answer fits into one window of credit."""

    socket: str
    uid: int
    asked: dict[int, Asked] = field(default_factory=dict)
    seen: int = 0
    """Pieces of text so far."""
    open: int = 0
    """Requests that are not over."""

    def __post_init__(self) -> None:
        os.seteuid(self.uid)
        try:
            self.dealer = Dealer(self.socket)
        finally:
            os.seteuid(0)
        self._by_id: dict[str, Asked] = {}
        self._send({"t": "hello", "protocol": [1, 2], "client": {"name": "bench"}})
        while not self.dealer.receive():
            if not self.dealer.wait(SILENCE_S):
                raise TimeoutError("no welcome")

    @property
    def served(self) -> int:
        """Return what it has been given, as the counters of `core/fairness.py` count."""
        return sum(PROMPT * one.prompt + ANSWER * max(one.pieces, one.tokens) for one in self.asked.values())

    def ask(self, prompt: str, tokens: int) -> Asked:
        """Send a chat request: greedy, and to the full number of tokens."""
        ref = len(self.asked)
        body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        body |= {"temperature": 0, "ignore_eos": True}
        self.asked[ref] = Asked(time.perf_counter())
        self.open += 1
        self._send({"t": "request", "ref": ref, "op": "chat", "body": body, "model": NAME, "credit": WINDOW})
        return self.asked[ref]

    def read(self) -> None:
        """Take what is there. Raises RuntimeError when a request fails."""
        for frames in self.dealer.receive():
            message = unpack(frames[0])
            match message["t"]:
                case "chunk":
                    self.seen += 1
                    one = self._by_id[message["id"]]
                    one.first = one.first or time.perf_counter()
                    one.pieces += 1
                case "accepted":
                    self._by_id[message["id"]] = self.asked[message["ref"]]
                case "done":
                    one = self._by_id[message["id"]]
                    one.tokens, one.prompt, one.over = message["usage"]["completion"], message["usage"]["prompt"], True
                    self.open -= 1
                case "failed":
                    raise RuntimeError(message)

    def _send(self, message: dict[str, Any]) -> None:
        self.dealer.send(pack(message))
        while self.dealer.wants_write:
            self.dealer.wait(SILENCE_S)
            self.dealer.flush()


def turn(users: list[User], timeout_s: float) -> None:
    """Read what comes next, the first user's first."""
    poll = select.poll()
    for user in users:
        poll.register(user.dealer.fileno(), select.POLLIN)
    if poll.poll(timeout_s * 1000):
        for user in users:
            user.read()


class FirstCome(DaemonFixture):
    """A daemon without turns."""

    @property
    def command(self) -> list[str]:
        """Return how it is started."""
        return ["bench.fcfs_daemon" if word == "ingled" else word for word in super().command]


class AsItIs(DaemonFixture):
    """The daemon, with models that need no weights."""

    @property
    def command(self) -> list[str]:
        """Return how it is started."""
        return ["bench.dummy_daemon" if word == "ingled" else word for word in super().command]


@contextmanager
def running(kind: type[DaemonFixture], config: str, engine: str) -> Iterator[DaemonFixture]:
    """A daemon that every user may use, with its model loaded."""
    with kind(config, engine=engine, environ=ingle_environment()) as daemon:
        daemon.folder.chmod(0o755)
        daemon.socket.chmod(0o666)
        person = User(str(daemon.socket), PERSON)
        person.ask("warm", 4)
        deadline = time.monotonic() + SILENCE_S
        while person.open:
            turn([person], SILENCE_S)
            if time.monotonic() > deadline:
                raise TimeoutError("the model is not loaded")
        person.dealer.close()
        yield daemon


@dataclass
class Outcome:
    """Of one measurement: seconds to the first token of each question, and tokens of all that was answered."""

    firsts: list[float]
    tokens: int = 0
    seconds: float = 0.0


def ask_beside(socket: str, batch: int, questions: int, prompt: str, round: int) -> Outcome:
    """Ask one question after the other, while the batch lasts; without one, so many."""
    person, other = User(socket, PERSON), User(socket, BATCH)
    load, heap = Load(1, 1, prompt, round=round), Load(batch or 1, batch or 1, round=round)
    begin = time.perf_counter()
    for index in range(batch):
        other.ask(heap.text(index), BATCH_TOKENS)
    while batch and other.seen < batch // 10:
        turn([other], SILENCE_S)
    question: Asked | None = None
    next_at, count = time.perf_counter(), 0
    while other.open if batch else (count < questions or person.open):
        now = time.perf_counter()
        if question is not None and question.over:
            question, next_at = None, now + 0.1
        if question is None and now >= next_at and (batch or count < questions):
            question = person.ask(load.text(count), QUESTION_TOKENS)
            count += 1
        turn([person, other], max(0.001, next_at - now) if question is None else SILENCE_S)
    seconds = time.perf_counter() - begin
    tokens = sum(one.tokens for user in (person, other) for one in user.asked.values())
    firsts = [one.first - one.at for one in person.asked.values() if one.first]
    while person.open:
        turn([person], SILENCE_S)
    person.dealer.close()
    other.dealer.close()
    return Outcome(firsts, tokens, seconds)


def measure(args: Any, record: Record) -> None:
    """Print the first table."""
    batch = args.batch or (60 if args.quick else 500)
    rounds = args.rounds or (1 if args.quick else 3)
    found: dict[str, list[Outcome]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="igb-model-") as folder:
        os.chmod(folder, 0o755)
        config = make(args.shape, Path(folder), args.places).profile() + RULES
        with running(AsItIs, config, "vllm") as ours, running(FirstCome, config, "vllm") as other:
            for number in range(rounds):
                for title, daemon, size in (("quiet", ours, 0), ("turns", ours, batch), ("first come", other, batch)):
                    questions = 20 if args.quick else 100
                    got = ask_beside(str(daemon.socket), size, questions, args.prompt, number * 10 + len(found[title]))
                    found[title].append(got)
    quiet = _firsts(found["quiet"])
    rows = []
    for title, outcomes in found.items():
        firsts = _firsts(outcomes)
        p50, p99 = percentile(firsts, 0.5) or 0, percentile(firsts, 0.99) or 0
        to_quiet = p99 / (percentile(quiet, 0.99) or 1)
        speeds = [one.tokens / one.seconds for one in outcomes]
        whole = f"{sum(speeds) / len(speeds):,.0f} ({min(speeds):,.0f}..{max(speeds):,.0f})"
        base = [one.tokens / one.seconds for one in found["first come"]]
        last = ["-", "-"] if title == "quiet" else [whole, f"{sum(speeds) / sum(base):.2f}"]
        numbers = [f"{p50 * 1000:,.1f}", f"{p99 * 1000:,.1f}", f"{to_quiet:.2f}"]
        rows.append([title, str(len(firsts)), *numbers, *last])
        record.data[title] = [vars(one) for one in outcomes]
    head = ["", "questions", "first ms p50", "p99", "of quiet p99", "tokens/s in all", "of first come"]
    what = f"{args.shape}, {args.places} places, {batch} batch requests, {args.prompt} questions"
    record.table(f"{what}, {rounds} rounds:", head, rows)


def _firsts(outcomes: list[Outcome]) -> list[float]:
    return [first for one in outcomes for first in one.firsts]


def fill(users: list[User], lengths: tuple[int, ...]) -> None:
    """Have each ask, by turns, until all have `WANTED` requests open."""
    while any(user.open < WANTED for user in users):
        for user, tokens in zip(users, lengths, strict=True):
            if user.open < WANTED:
                user.ask(f"{len(user.asked)} word", tokens)


def equals(args: Any, seconds: float, record: Record) -> None:
    """Print the second table."""
    marks = [seconds * part / 10 for part in range(1, 11)]
    with tempfile.TemporaryDirectory(prefix="igb-model-") as folder:
        os.chmod(folder, 0o755)
        vllm = args.engine == "vllm"
        config = EQUALS + (make(args.shape, Path(folder), args.places).profile() if vllm else ECHO)
        with running(AsItIs, config, args.engine) as daemon:
            short, long = User(str(daemon.socket), PERSON), User(str(daemon.socket), BATCH)
            both, lengths, few = [short, long], (20, 120), 2 * (args.places if vllm else ECHO_PLACES)
            fill(both, lengths)
            before = [user.served for user in both]
            begin, gaps, dry = time.perf_counter(), [], 0
            for mark in marks:
                while (left := begin + mark - time.perf_counter()) > 0:
                    turn(both, left)
                    dry += sum(user.open < few for user in both)
                    fill(both, lengths)
                got = [user.served - at for user, at in zip(both, before, strict=True)]
                gaps.append(got[0] - got[1])
            made = short.seen + long.seen
            short.dealer.close()
            long.dealer.close()
    record.data |= {"gap": dict(zip(marks, gaps, strict=True)), "dry": dry}
    text = f"What one account got more than the other (prompt tokens + 2 x answer tokens), of {got[0]:,} and {got[1]:,}"
    text += f"; {args.engine}, {made:,} pieces of text in all, {dry} times nothing of one waited:"
    record.table(text, ["after s", *(f"{mark:.0f}" for mark in marks)], [["more", *(f"{gap:+,d}" for gap in gaps)]])


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--shape", default=TINY)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--batch", type=int, help="requests in the queue; 500, or 60 with --quick")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--prompt", choices=("short", "long"), default="short")
    parser.add_argument("--seconds", type=float, help="of the second table; 300, or 10 with --quick; 0: leave it out")
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm", help="of the second table")
    parser.add_argument("--only-equals", action="store_true", help="leave the first table out")
    args = parser.parse_args()
    record = Record("fairness", args.label)
    record.begin("Turns")
    if not args.only_equals:
        measure(args, record)
    seconds = args.seconds if args.seconds is not None else (10 if args.quick else 300)
    if seconds:
        equals(args, seconds, record)
    print(record.write())


if __name__ == "__main__":
    main()
