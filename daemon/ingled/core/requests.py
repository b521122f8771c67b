"""The requests that the daemon has accepted and not yet forgotten."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ingle.wire.schema import Done
from msgspec import Raw

from ingled.core.accounts import MEMBER, Rights
from ingled.core.chain import Chain
from ingled.core.registry import Entry


class Stage(Enum):
    """Where a request is."""

    FILTERING = "filtering"
    """With its hooks, before it runs or after."""
    QUEUED = "queued"
    """Waits for its model."""
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
    stage: Stage = Stage.QUEUED
    worker: str | None = None
    waited: bool = False
    """The model was not ready when the request came."""
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
    def open(self) -> bool:
        """Its reader gets text as it passes."""
        return self.stream and not self.sealed


@dataclass(slots=True)
class Requests:
    """All requests, and counts of those that ended."""

    records: dict[str, Record] = field(default_factory=dict)
    done_total: int = 0
    failed_total: int = 0
    _open: Counter[str] = field(default_factory=Counter)

    def at(self, stage: Stage, model: str | None = None) -> list[Record]:
        """Return the requests at a stage, of one model or of all, oldest first."""
        return [r for r in self.records.values() if r.stage is stage and (model is None or r.model == model)]

    def add(self, record: Record) -> None:
        """Take a request in."""
        self.records[record.id] = record
        self._open[record.account] += 1

    def over(self, record: Record) -> None:
        """A request counts no longer as open: it is kept, or about to be removed."""
        self._open[record.account] -= 1
        if not self._open[record.account]:
            del self._open[record.account]

    def open_of(self, account: str) -> int:
        """Return how many requests of an account are not over."""
        return self._open[account]
