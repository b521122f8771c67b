"""The core by itself, in virtual time: requests come, models load and answers are made as fast as a heap is emptied.

Everything that decides is the daemon's own (`ingled.core`): who waits and with whom, who is closed after how long, who
goes for whom. Only the shell around it is played here: a load takes as long as its model says, an answer as
long as its request says, and a worker that is told to go has gone at once.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Caller, Rights
from ingled.core.control import Control
from ingled.core.desk import Limits
from ingled.core.placement import Device, Policy, Terms
from ingled.core.residency import Model
from ingled.core.residents import PATIENCE_S
from msgspec import Raw

from bench.traces import Asked

MANY = 1 << 30
"""No bound of a queue is of interest here."""


@dataclass
class Told:
    """What came of it."""

    loads: dict[str, int] = field(default_factory=dict)
    """How often each model was loaded."""
    loading_s: float = 0.0
    """Seconds of loading, of all models together."""
    waits: list[float] = field(default_factory=list)
    """For each request: seconds from its coming until it ran."""
    refused: int = 0
    """Requests that were refused, as their model did not fit."""


class World:
    """One device, its models, and those who ask."""

    def __init__(
        self, terms: dict[str, Terms], budget: int, policy: Policy | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        """`policy`: the daemon's, if none is given; `patience_s`: of those who wait for busy models."""
        models = [Model(name, terms=one) for name, one in terms.items()]
        limits = Limits(queue=MANY, open_requests=MANY)
        self.core = Control(models, models[0].name, limits, device=Device("gpu", budget), patience_s=patience_s)
        if policy is not None:
            self.core.residents.policy = policy
        self.told, self.now, self._terms = Told(), 0.0, terms
        self._heap: list[tuple[float, int, on.Event]] = []
        self._order, self._pids = count(), count(100)
        self._timers: dict[tuple[str, str], float] = {}
        self._asked: dict[str, Asked] = {}
        self._who = Caller(1, "uid:1", Rights())

    def replay(self, requests: list[Asked]) -> Told:
        """Let these requests come, and return what came of them when all are over."""
        for number, one in enumerate(requests):
            id, body = f"r{number}", Raw(b"")
            self._asked[id] = one
            self._at(on.RequestArrived(one.at, self._who, 0, id, "chat", one.model, body, True, 4, None, False, 0, 0))
        while self._heap:
            self.now, _, event = heappop(self._heap)
            if isinstance(event, on.TimerFired):
                if self._timers.get(event.key) != self.now:
                    continue  # it was set anew, or is not wanted any more
                del self._timers[event.key]
            for effect in self.core.handle(event):
                self._do(self.now, effect)
        assert len(self.told.waits) + self.told.refused == len(requests), "everybody was answered"
        return self.told

    def _at(self, event: on.Event) -> None:
        heappush(self._heap, (event.now, next(self._order), event))

    def _do(self, now: float, effect: do.Effect) -> None:
        match effect:
            case do.StartWorker(name):
                pid, seconds = next(self._pids), self._terms[name].reload_s
                self.told.loads[name] = self.told.loads.get(name, 0) + 1
                self.told.loading_s += seconds
                self._at(on.WorkerForked(now, name, pid))
                self._at(on.WorkerAttached(now, name, str(pid), pid))
                self._at(on.WorkerReady(now + seconds, name, pid))
            case do.StopWorker(name, _, pid) if pid is not None:
                self._at(on.WorkerGone(now, name, pid, "told to go"))
            case do.RunRequest(_, record):
                self._begins(now, record.id)
            case do.BeginRequest(_, id):
                self._begins(now, id)
            case do.CloseStream(id):
                if (asked := self._asked.pop(id, None)) is not None:
                    self.told.refused += 1
                    self.waits_no_longer(now, asked)
                self._at(on.Delivered(now, id))
            case do.SetTimer(key, at):
                self._timers[key] = at
                self._at(on.TimerFired(at, key))
            case do.ClearTimer(key):
                self._timers.pop(key, None)

    def _begins(self, now: float, id: str) -> None:
        asked = self._asked.pop(id)
        self.told.waits.append(now - asked.at)
        self.waits_no_longer(now, asked)
        self._at(on.RunEnded(now + asked.seconds, id, "stop", 1, 0, 1, 1.0, None, None))

    def waits_no_longer(self, now: float, asked: Asked) -> None:
        """A request runs, or is refused; a test may look on."""
