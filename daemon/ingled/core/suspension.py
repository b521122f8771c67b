"""What becomes of models while the machine itself is suspended: what its memory loses is taken out of it before. Pure.

Where models are in RAM nothing is done: it stays powered. What is on a GPU whose driver saves its memory stays too, and
is looked at when the machine is back. Else models fall asleep, or go out, and requests that run are taken back from
their workers: they go on from their last token.
"""

from typing import TYPE_CHECKING

from ingle.wire.schema import Phase

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.adapters import ending
from ingled.core.events import Survival
from ingled.core.ladder import deep_enough
from ingled.core.residency import AWAY, MOVING, Cause, Model, State

if TYPE_CHECKING:
    from ingled.core.residents import Residents
    from ingled.core.workers import Workers

HALF = 0.5
"""Part of the time before the machine is suspended in which running requests may come to their end."""
WAITS: tuple[Phase, str] = ("queued", "the machine is about to be suspended")
"""What those are told who wait meanwhile."""


class Suspension:
    """The machine is about to be suspended, or was."""

    def __init__(self, workers: "Workers", residents: "Residents") -> None:
        """`workers` and `residents` carry it out."""
        self._workers, self._residents = workers, residents
        self._models = workers.models
        self.memory: Survival | None = None
        """Of models, while the machine is about to be suspended; None otherwise."""
        self._take_back_at = 0.0
        self._allowed = False
        self._back: set[str] = set()
        """Models that are to be there again afterwards."""
        self._unsure: set[str] = set()
        """Models that are looked at as soon as they are idle."""

    @property
    def holds(self) -> bool:
        """Nothing is begun: no request, no load, no wake."""
        return self.memory is Survival.LOST

    def begins(self, e: on.SuspendBegins) -> list[do.Effect]:
        """The machine is about to be suspended, in so many seconds at the latest."""
        if self._workers.draining or self.memory is not None:
            return [do.AllowSuspend()] if self.memory is None or self._allowed else []
        self.memory, self._allowed = e.memory, False
        self._take_back_at = e.now + e.within_s * HALF
        told = f"{WAITS[1]}, and what models have in memory {e.memory.value}"
        out: list[do.Effect] = [do.Log("info", told), do.Publish("daemon", {"what": "suspending"})]
        if e.memory is Survival.SAVED:
            self._unsure = {model.name for model in self._own(State.READY)}
        if e.memory is Survival.LOST:
            self._workers.desk.places.holds = True
            self._back = {model.name for model in self._own(State.READY, State.WAKING, State.LOADING)}
            out.append(do.SetTimer(("suspend", ""), self._take_back_at))
        return out

    def ends(self, e: on.SuspendEnds) -> list[do.Effect]:
        """The machine is back, or was not suspended: all is as before, once it has been looked at."""
        memory, self.memory = self.memory, None
        if memory is None:
            return []
        out: list[do.Effect] = [do.Log("info", "the machine is back"), do.ClearTimer(("suspend", ""))]
        out.append(do.Publish("daemon", {"what": "resumed"}))
        self._workers.desk.places.holds = False
        if memory is Survival.STAYS:
            return out
        for model in self._models.values():
            if model.waits == WAITS:
                model.waits = None
        for model in self._own(State.SLEEPING, State.DOZING):
            model.suspended = True
        self._unsure = {model.name for model in self._own(State.READY)}
        if memory is Survival.LOST:
            out += self._take_back(e.now)  # of those for which there was no time
        self._want_back(e.now)
        out += self._look(e.now)
        for model in self._own(State.READY):
            out += self._workers.desk.places.opened(e.now, model)
        return out

    def _want_back(self, now: float) -> None:
        """Have all models brought back that were there or are waited for, these first."""
        there = {name for name in self._back if name in self._models}
        self._back.clear()
        for name in list(self._residents.wanted):
            there |= {name} & self._residents.hints
            self._residents.forget(name)
        for name in sorted(self._models, key=lambda name: not self._workers.waited_for(name)):
            model = self._models[name]
            if name in there and model.state in (State.DOZING, State.STOPPING):
                model.wanted_again = True
            elif model.state in AWAY and model.restart_at is None and (name in there or self._workers.waited_for(name)):
                self._residents.want(now, model, hint=name in there)

    def next(self, now: float) -> list[do.Effect]:
        """Do what can be done by now."""
        out = self._clear(now) if self.memory is Survival.LOST else self._look(now)
        if self.memory is None or self._allowed or any(self._in_the_way(model) for model in self._own(*State)):
            return out
        self._allowed = True
        return [*out, do.AllowSuspend()]

    def tell(self, now: float) -> list[do.Effect]:
        """Tell those who wait for a model why nothing comes of it now."""
        waited = [model for model in self._own(*State) if model.waits != WAITS and self._workers.waited_for(model.name)]
        out: list[do.Effect] = []
        for model in waited:
            model.waits = WAITS
            out += self._workers.tell(now, model)
        return out

    def _in_the_way(self, model: Model) -> bool:
        """Return whether the machine is not to be suspended while a model is as it is."""
        if self.memory is not Survival.LOST:
            return model.state is State.CHECKING
        unborn = model.pid is None and model.state in (State.LOADING, State.STOPPING)
        return model.state in (State.READY, State.STOPPING, *MOVING) and not unborn

    def _own(self, *states: State) -> list[Model]:
        """Return the models that have a worker of their own, in these states."""
        return [model for model in self._models.values() if model.state in states and model.adapts is None]

    def _clear(self, now: float) -> list[do.Effect]:
        """Let idle models sleep, one at a time, or go out; at last those that are busy too."""
        out = self._take_back(now) if now >= self._take_back_at else []
        why = WAITS[1]
        for model in self._own(State.LOADING):
            if model.pid is not None:  # what it has so far would be lost
                out += [*self._workers.move(now, model, Cause.UNWANTED), ending(model)]
        for model in self._own(State.READY):
            if any(self._workers.requests.running(name) for name in self._workers.adapters.family(model.name)):
                continue
            if not model.sleep.can:
                out += self._residents.put_out(now, model, why)
            elif not any(one.state in MOVING for one in self._own(*MOVING)):
                level = deep_enough(model.sleep, self._residents.host)
                out += self._residents.sleepers.begin(now, model, level, why)
        return out

    def _take_back(self, now: float) -> list[do.Effect]:
        """Take all requests that run back from their workers."""
        out: list[do.Effect] = []
        for model in self._own(State.READY):
            for name in self._workers.adapters.family(model.name):
                for record in self._workers.requests.running(name):
                    out += self._workers.desk.places.take_back(now, record)
        return out

    def _look(self, now: float) -> list[do.Effect]:
        """See whether idle models answer as they did before the machine was suspended."""
        out: list[do.Effect] = []
        for name in sorted(self._unsure):
            model = self._models.get(name)
            if model is None or model.state is not State.READY:
                self._unsure.discard(name)
            elif not self._residents.busy(name) and model.worker is not None:
                self._unsure.discard(name)
                out += [*self._workers.move(now, model, Cause.CHECK), do.CheckWorker(name, model.worker)]
        return out
