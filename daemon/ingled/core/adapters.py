"""Adapters: models without a worker of their own. Each is loaded into the worker of its base, and goes with it. Pure.

An adapter is ready only while its base is. Who wants it wants its base first; while it loads or runs, its base is busy.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.placement import Never
from ingled.core.residency import GONE, Cause, Model, State

if TYPE_CHECKING:
    from ingled.core.workers import Workers

WITH_BASE = (State.LOADING, State.READY, State.STOPPING)
"""States in which an adapter is in a worker, or on its way."""


def base_of(models: Mapping[str, Model], model: Model) -> Model:
    """Return the model in whose worker this one is: itself, if it is no adapter."""
    return model if model.adapts is None else models[model.adapts]


def shown(models: Mapping[str, Model], model: Model) -> Model:
    """Return the model whose state those are told who wait for this one: an adapter's base, until that is ready."""
    base = base_of(models, model)
    return model if base.state is State.READY or model.state is State.FAILED else base


def ending(model: Model) -> do.Effect:
    """Return what ends a model: of an adapter, only its part of its base's worker."""
    if model.adapts is not None and model.worker is not None:
        return do.DropAdapter(model.worker, model.name)
    return do.StopWorker(model.name, model.worker, model.pid)


class Adapters:
    """The models that have a base."""

    def __init__(self, workers: "Workers") -> None:
        """`workers` know who waits, and start and stop the bases."""
        self._workers = workers
        self._models, self._requests = workers.models, workers.requests
        self._wanted: dict[str, None] = {}
        """Those that are to be loaded though no request waits for them, or again after a failure."""
        self._of: dict[str, list[Model]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Models have come or gone: see again who adapts whom."""
        self._of = {}
        for model in self._models.values():
            if model.adapts is not None:
                self._of.setdefault(model.adapts, []).append(model)
        for name in self._models:
            family = self.family(self._models[name].adapts or name)
            # One engine has the places of all.
            self._requests.turns[name].beside = [self._requests.turns[other] for other in family if other != name]

    def family(self, name: str) -> list[str]:
        """Return a base and its adapters, by name; of other models, itself."""
        return [name, *(model.name for model in self._of.get(name, ()))]

    def busy(self, name: str) -> bool:
        """Return whether a model runs requests, its adapters' included, or an adapter is being loaded into it."""
        loading = any(model.state is State.LOADING for model in self._of.get(name, ()))
        return loading or any(self._requests.turns[one].running for one in self.family(name))

    def want(self, model: Model, *, hint: bool) -> None:
        """An adapter is to be loaded, as soon as its base is there; `hint`: though no request waits for it."""
        if hint or model.state is State.FAILED:
            self._wanted[model.name] = None

    def forget(self, name: str) -> bool:
        """It is no longer wanted; returns whether it was."""
        return name in self._wanted and self._wanted.pop(name) is None

    def want_base(self, name: str) -> bool:
        """Return whether a model is wanted for the sake of an adapter."""
        return name in self._of and any(model.adapts == name and self._is_wanted(model) for model in self._perhaps())

    def _perhaps(self) -> list[Model]:
        """Return the adapters that may be wanted; of all others nobody has said anything."""
        if not self._of:
            return []
        names = dict.fromkeys([*self._wanted, *self._workers.waited])
        return [model for name in names if (model := self._models[name]).adapts is not None]

    def _is_wanted(self, model: Model) -> bool:
        waited = self._workers.waited_for(model.name)
        if model.name in self._wanted:
            return waited or not self._workers.draining
        return waited and model.state is State.COLD

    def place(self, now: float) -> list[do.Effect]:
        """Load what is wanted and has its base, and want the bases of the others."""
        out: list[do.Effect] = []
        for model in self._perhaps():
            if model.state not in GONE or not self._is_wanted(model):
                self.forget(model.name)
                continue
            home = base_of(self._models, model)
            if home.state is State.READY and home.worker is not None:
                self.forget(model.name)
                out += self._workers.move(now, model, Cause.WANTED)
                model.worker, model.pid = home.worker, home.pid
                out.append(do.AddAdapter(home.worker, model.name))
            else:
                self._workers.residents.want(now, home)
        return out

    def ready(self, e: on.AdapterReady) -> list[do.Effect]:
        """A worker has an adapter: it was told to load it, or has had it since before this process began."""
        model = self._models.get(e.model)
        if model is None or model.adapts is None:
            return []
        base = self._models[model.adapts]
        if base.state is not State.READY or base.pid != e.pid:
            return []
        out: list[do.Effect] = []
        if model.state in GONE:
            out += self._workers.move(e.now, model, Cause.ADOPTED)
            model.worker, model.pid = base.worker, base.pid
        if model.state is not State.LOADING:
            return out
        return [*out, *self._workers.opens(e.now, model, base.places)]

    def failed(self, e: on.AdapterFailed) -> list[do.Effect]:
        """An adapter cannot be loaded; the worker and its base serve on."""
        model = self._models.get(e.model)
        if model is None or model.adapts is None or model.state is not State.LOADING or model.pid != e.pid:
            return []
        return self._workers.fails(e.now, model, Cause.LOAD_FAILED, e.why)

    def gone(self, e: on.AdapterGone) -> list[do.Effect]:
        """A worker has an adapter no longer, as it was told."""
        model = self._models.get(e.model)
        if model is None or model.adapts is None or model.state is not State.STOPPING or model.pid != e.pid:
            return []
        again = model.wanted_again
        out = self._workers.move(e.now, model, Cause.GONE)
        if again:
            self.want(model, hint=True)
        return out

    def base_left(self, now: float, base: Model) -> list[do.Effect]:
        """A base is ready no longer: what its worker had is gone, and comes back with it if it is wanted."""
        out: list[do.Effect] = []
        for model in self._of.get(base.name, ()):
            if model.state in WITH_BASE:
                if model.wanted_again:
                    self.want(model, hint=True)
                out += self._workers.move(now, model, Cause.BASE_LEFT)
        return out

    def refused(self, now: float, base: Model, never: Never) -> list[do.Effect]:
        """A base does not fit: tell all who wait for its adapters."""
        waited = [model for model in self._of.get(base.name, ()) if self._is_wanted(model)]
        for model in waited:
            self.forget(model.name)
        return [effect for model in waited for effect in self._workers.refuse_waiting(now, model, never)]

    def base_failed(self, now: float, base: Model) -> list[do.Effect]:
        """A base cannot be loaded: nor can those adapters of it that somebody waits for."""
        out: list[do.Effect] = []
        for model in self._of.get(base.name, ()):
            if self._is_wanted(model):
                why = f"its base '{base.name}' cannot be loaded: {base.why or 'unknown reason'}"
                self.forget(model.name)
                out += self._workers.fails(now, model, Cause.BASE_FAILED, why)
        return out
