"""Requests and the workers that run them: each is given to the one of its model, in its turn, as places come free."""

from collections.abc import Mapping

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.fairness import FIRST_OF_ALL
from ingled.core.outcomes import request_event
from ingled.core.requests import Record, Requests, Stage
from ingled.core.residency import Model, State


class Places:
    """The places of all models."""

    def __init__(self, models: Mapping[str, Model], requests: Requests) -> None:
        """`models` are read only."""
        self._models, self._requests = models, requests
        self.holds = False
        """Nothing is begun: the machine is about to be suspended."""

    def run(self, now: float, record: Record) -> list[do.Effect]:
        """Have the worker of its model, which is ready, run a request."""
        worker = self._models[record.model].worker
        assert worker is not None, "a ready model has a worker"
        held = record.stage is Stage.QUEUED and record.worker == worker
        late = self._requests.turns[record.model].overdue(now, record)
        self._requests.move(record, Stage.RUNNING)
        record.worker, record.run_at = worker, now
        if late:
            record.priority = FIRST_OF_ALL
        begin = do.BeginRequest(worker, record.id, record.priority) if held else do.RunRequest(worker, record)
        out: list[do.Effect] = [begin, request_event(record)]
        if record.stopped is not None:  # while it had no worker: this one only says what it has cost
            out.append(do.AbortRequest(worker, record.id))
        return out

    def hold(self, record: Record) -> list[do.Effect]:
        """Let the worker hold a request that waits for a place there, so that it outlives this process."""
        worker = self._models[record.model].worker
        assert worker is not None, "a ready model has a worker"
        record.worker = worker
        return [do.HoldRequest(worker, record)]

    def takes(self, now: float, record: Record) -> bool:
        """Return whether a request that has just come can run at once: whoever waited before it could not."""
        model = self._models[record.model]
        turns = self._requests.turns[record.model]
        turns.asked(now, record)
        return self._open(model) and turns.room(now, record.priority)

    def _open(self, model: Model) -> bool:
        """Return whether requests may be given to a model."""
        return model.state is State.READY and not model.closed and not self.holds

    def next(self, now: float) -> list[do.Effect]:
        """Run those that wait and for whom there is a place, each in its turn."""
        out: list[do.Effect] = []
        some = [name for name in self._requests.queued if self._open(self._models[name])]
        while some:
            for name in list(some):  # one of each: a base and its adapters have the same places
                one = self._requests.turns[name].next(now)
                if one is None:
                    some.remove(name)
                else:
                    out += self.run(now, self._requests.records[one.id])
        return out

    def opened(self, now: float, model: Model) -> list[do.Effect]:
        """A model is ready, or takes requests again: what waits is given to its worker."""
        self._requests.turns[model.name].open(now, model.places)
        out = self.next(now)
        for record in self._requests.waiting(model.name):
            if record.worker is None:
                out += self.hold(record)
        return out

    def take_back(self, now: float, record: Record) -> list[do.Effect]:
        """Take a running request back from its worker, which lives on: it will go on from its last token."""
        assert record.worker is not None, "a running request has a worker"
        out: list[do.Effect] = [do.AbortRequest(record.worker, record.id), do.ReleaseRequest(record.worker, record.id)]
        record.worker, record.waited = None, True
        self._requests.move(record, Stage.QUEUED)
        return [*out, do.KeepWaiting(record), request_event(record)]

    def let_go(self, name: str) -> list[do.Effect]:
        """A worker has let go of a model's requests: all that it made of those that were taken back has come by now."""
        return [do.KeepWaiting(record) for record in self._requests.waiting(name) if record.worker is None]

    def missed(self, e: on.RequestsMissed) -> list[do.Effect]:
        """Give the worker again what was lost while its link was down."""
        out: list[do.Effect] = []
        worker = str(e.pid)
        mine = [
            one for one in self._requests.records.values() if one.worker == worker == self._models[one.model].worker
        ]
        for record in [one for one in mine if one.stage is Stage.RUNNING]:
            if record.id not in e.held:
                record.resumed += 1
                out += self.run(e.now, record)
            elif record.id in e.waiting:
                out.append(do.BeginRequest(worker, record.id, record.priority))
        for record in mine:
            if record.stage is Stage.QUEUED and record.id not in e.held:
                out += self.hold(record)
        return out
