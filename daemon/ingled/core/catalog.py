"""Which models there are: they come, change and go with the configuration, while the daemon runs. Pure.

A model that goes finishes what it has, and takes nothing new: for who asks, it is gone at once.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.adapters import ending
from ingled.core.desk import ALIVE
from ingled.core.residency import PRESENT, STAYING, Cause, Model, State

if TYPE_CHECKING:
    from ingled.core.workers import Workers


class Catalog:
    """Adds, changes and removes models."""

    def __init__(self, workers: "Workers") -> None:
        self._workers = workers
        self._models, self._names = workers.models, workers.names
        self._leaving: list[Model] = []
        """The models that are to go."""

    def changed(self, e: on.ModelsChanged) -> list[do.Effect]:
        """Have these models; what a change of launch options means, the next load will show."""
        out: list[do.Effect] = []
        for fresh in e.models:
            model = self._models.get(fresh.name)
            if model is None:
                self._models[fresh.name] = fresh
            else:
                out += self._change(e.now, model, fresh)
        for name, model in self._models.items():
            model.leaving = name not in e.names
            if model.leaving:
                self._workers.residents.hints.discard(name)  # who waits for it still gets it
                self._workers.adapters.forget(name)
        self._leaving = [model for model in self._models.values() if model.leaving]
        self._names.set(e.names, e.default)
        self._workers.adapters.refresh()
        return out

    def _change(self, now: float, model: Model, fresh: Model) -> list[do.Effect]:
        need = fresh.terms.need or model.terms.need
        model.aliases, model.ttl, model.comes_back = fresh.aliases, fresh.ttl, fresh.comes_back
        model.terms = replace(fresh.terms, need=need, reload_s=model.terms.reload_s)
        if fresh.pin != model.pin:
            model.pin = model.pinned = fresh.pin
        model.later = (fresh.license, fresh.revision, fresh.ops, fresh.adapts)
        if model.state not in PRESENT:
            model.settle()
        model.failures, model.crashes, model.retry_at = 0, 0, now  # it may be what was wrong that has changed
        ready = model.state is State.READY and model.ttl is not None
        return [do.SetTimer(("ttl", model.name), now + (model.ttl or 0.0))] if ready else []

    def let_go(self, now: float) -> list[do.Effect]:
        """Unload the models that are to go and have nothing left to do, and forget those that have gone."""
        out: list[do.Effect] = []
        for model in sorted(self._leaving, key=lambda one: one.adapts is None):  # adapters go before their base
            name = model.name
            family = self._workers.adapters.family(name)
            busy = any(one.model in family and one.stage in ALIVE for one in self._workers.requests.records.values())
            if busy or self._workers.waited_for(name):
                continue
            if model.state in STAYING:
                end = ending(model)
                out += [*self._workers.move(now, model, Cause.UNWANTED), end]
            elif model.state is not State.STOPPING and family == [name]:
                out += [do.ClearTimer((kind, name)) for kind in ("restart", "tell", "ttl", "back")]
                out += [do.ForgetModel(name), do.Log("info", f"model '{name}': the configuration has it no more", name)]
                self._workers.residents.forget(name)
                self._workers.adapters.forget(name)
                del self._models[name]
                self._leaving.remove(model)
                self._workers.requests.turns.pop(name, None)
                self._workers.adapters.refresh()
        return out
