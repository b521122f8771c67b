"""The requests that the daemon has accepted and not yet forgotten."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ingle.wire.schema import TEXT_OPS, Done
from msgspec import Raw

from ingled.core.accounts import MEMBER, Rights
from ingled.core.chain import Chain
from ingled.core.fairness import ANSWER, PROMPT, Turns, Waiter
from ingled.core.registry import Entry

BYTES_PER_TOKEN = 4
"""What a token of a prompt is taken to be when nobody has counted them."""


class Stage(Enum):
    """Where a request is."""

    FILTERING = "filtering"
    """With its hooks, before it runs or after."""
    QUEUED = "queued"
    """Waits for its model, or for a place there."""
    RUNNING = "running"
    """Given to a worker."""
    ENDING = "ending"
    """The engine is done; text or the end waits for the reader."""
    KEPT = "kept"
    """Over, and held for later attaches."""


@dataclass(slots=True)
class Record:
    """One accepted request."""

    id: str
    account: str
    conn: int | None
    model: str
    op: str
    body: Raw
    stream: bool
    detach: bool
    grace_ms: int
    priority: int
    arrived: float
    rights: Rights = MEMBER
    stage: Stage = Stage.FILTERING
    worker: str | None = None
    """Who holds it: a worker also has what waits for a place there, so that a death of this process loses nothing."""
    waited: bool = False
    """It had to wait for its model, or for a place."""
    run_at: float = 0.0
    deadline_at: float | None = None
    paid: bool = False
    """Its tokens are taken off what its account has."""
    resumed: int = 0
    """How often a worker died under it."""
    origin: int | None = None
    """The connection that it came from."""
    client: str = ""
    tags: tuple[str, ...] = ()
    context: list[dict[str, Any]] = field(default_factory=list)
    trace: bool = False
    hooked: bool = False
    """Some hook has seen it."""
    chain: Chain | None = None
    met: dict[str, Entry] = field(default_factory=dict)
    """By key, the hooks that it has met, or will meet at its end."""
    ran: list[dict[str, Any]] = field(default_factory=list)
    """What `done.hooks` will say."""
    handled: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By key, what it will say of chunk handlers."""
    states: dict[str, bytes] = field(default_factory=dict)
    """By hook, what it keeps for this request."""
    handlers: list[Entry] = field(default_factory=list)
    """Chunk handlers of its answer."""
    watched: bool = False
    """Its text is held whole: hooks will want it."""
    guarded: bool = False
    """A hook for security sees the whole answer: only what it has seen goes out."""
    sealed: bool = False
    """Nothing of its text goes out before the hooks at `answer` have seen all of it."""
    stopped: tuple[str, str] | None = None
    """The handler that stopped it, and why."""
    answer: str | None = None
    """What a filter has answered in the model's place: no worker has this text."""
    end: Done | None = None
    """How it ended for the engine, while hooks look at the answer."""

    def settle(self) -> None:
        """Note for good what its handlers have done, in their order."""
        self.ran += [self.handled.pop(one.key) for one in self.handlers if one.key in self.handled]

    def told(self) -> list[dict[str, Any]]:
        """Return what can be said of all hooks that it has met, those that are at work now included."""
        self.settle()
        if self.chain is None:
            return self.ran
        return [*self.ran, *self.chain.ran, *self.chain.broken_off("the request ended before it had answered")]

    @property
    def prompt_guess(self) -> int:
        """Return the tokens of its prompt, before anybody has counted them."""
        return len(self.body) // BYTES_PER_TOKEN

    @property
    def textual(self) -> bool:
        """Its answer is text, which hooks may see and change."""
        return self.op in TEXT_OPS

    @property
    def open(self) -> bool:
        """Its reader gets text as it passes."""
        return self.stream and not self.sealed


class Requests:
    """All requests, who waits and runs by model, and counts of those that ended."""

    def __init__(self, made: Callable[[str], int] = lambda id: 0) -> None:
        """`made` tells how many tokens there are of an answer."""
        self.records: dict[str, Record] = {}
        self.turns: defaultdict[str, Turns] = defaultdict(lambda: Turns(self._worth))
        """By model."""
        self.queued: dict[str, None] = {}
        """The models for which requests wait: the one that has waited longest for its turn is first."""
        self.done_total = self.failed_total = 0
        self.stages: Counter[Stage] = Counter()
        """How many requests there are at each stage."""
        self.kept: dict[str, int] = {}
        """Requests that are kept, in the order in which that began, and the bytes that each takes."""
        self.kept_bytes = 0
        self._made = made
        self._open: Counter[str] = Counter()
        self._readers: dict[int, dict[str, Record]] = {}
        """By connection, what it reads."""

    def _worth(self, one: Waiter) -> int:
        record = self.records[one.id]
        return 0 if record.paid else PROMPT * record.prompt_guess + ANSWER * self._made(one.id)

    def read_by(self, conn: int) -> Collection[Record]:
        """Return the requests that a connection reads, oldest first."""
        return self._readers.get(conn, {}).values()

    def give(self, record: Record, conn: int | None) -> None:
        """Another connection reads a request, or none."""
        self._take(record)
        record.conn = conn
        if conn is not None:
            self._readers.setdefault(conn, {})[record.id] = record

    def _take(self, record: Record) -> None:
        if record.conn is not None and (mine := self._readers.get(record.conn)) is not None:
            mine.pop(record.id, None)
            if not mine:
                del self._readers[record.conn]

    def keep(self, record: Record, size: int) -> None:
        """A request is over, and kept; it takes so many bytes."""
        self.move(record, Stage.KEPT)
        self.over(record)
        self.kept[record.id] = size
        self.kept_bytes += size

    def waiting(self, model: str) -> list[Record]:
        """Return the requests that wait for a model, in the order in which they began to."""
        return [self.records[id] for id in self.turns[model].waiting]

    def running(self, model: str) -> list[Record]:
        """Return the requests that run on a model."""
        return [self.records[id] for id in self.turns[model].running]

    def move(self, record: Record, stage: Stage) -> None:
        """A request is at another stage."""
        self._leave(record)
        if record.id in self.records:  # hooks may have decided before it is taken in
            self.stages[record.stage] -= 1
            self.stages[stage] += 1
        record.stage = stage
        if stage is Stage.QUEUED:
            self.turns[record.model].wait(record)
            self.queued[record.model] = None
        elif stage is Stage.RUNNING:
            self.turns[record.model].run(record)
            if record.model in self.queued:  # of models that one engine runs, another one is next
                del self.queued[record.model]
                self.queued[record.model] = None

    def add(self, record: Record) -> None:
        """Take a request in, at any stage but `LISTED`."""
        self.records[record.id] = record
        self.stages[record.stage] += 1
        self._open[record.account] += 1
        self.give(record, record.conn)

    def remove(self, record: Record) -> None:
        """Forget a request."""
        self._leave(record)
        self.stages[record.stage] -= 1
        del self.records[record.id]
        self.kept_bytes -= self.kept.pop(record.id, 0)
        self._take(record)

    def _leave(self, record: Record) -> None:
        if record.stage in LISTED:
            turns = self.turns[record.model]
            turns.leave(record)
            if not turns.waiting:
                self.queued.pop(record.model, None)

    def over(self, record: Record) -> None:
        """A request counts no longer as open: it is kept, or about to be removed."""
        self._open[record.account] -= 1
        if not self._open[record.account]:
            del self._open[record.account]

    def open_of(self, account: str) -> int:
        """Return how many requests of an account are not over."""
        return self._open[account]


LISTED = (Stage.QUEUED, Stage.RUNNING)
"""Stages of requests that `Turns` know."""
