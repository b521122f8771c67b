"""The workers of the models: they load, are ready, die, are replaced, and are told to go.

`Control` hands in what it is told of them; who waits for a model gets it, or hears why not, from here.
"""

from collections.abc import Sequence

from ingle.wire.schema import Progress, Result
from msgspec import UNSET
from msgspec.structs import replace

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.adapters import Adapters, ending, shown
from ingled.core.calls import Call, Calls
from ingled.core.desk import Desk
from ingled.core.naming import Names, Unusable
from ingled.core.outcomes import failed, refuse, told, unusable, why_failed
from ingled.core.pipeline import Pipeline
from ingled.core.placement import Device, Never
from ingled.core.requests import Record, Stage
from ingled.core.residency import AWAY, CRASHES, STAYING, Cause, Model, State
from ingled.core.residents import MEMORY_WAIT_S, PATIENCE_S, Residents

RESTART_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a worker that died is replaced, by its deaths in a row."""

ASLEEP = (State.DOZING, State.SLEEPING)
"""If its worker ends, it is not replaced for that: nobody was using it."""

SETTLED = (State.READY, State.WAKING, State.CHECKING, *ASLEEP)
"""Its worker has been ready."""

FAULTS = (Cause.LOAD_FAILED, Cause.DYING, Cause.BASE_FAILED, Cause.GAVE_UP)
"""Causes of which the model knows more than their name; of others it still knows the last fault."""

NURSERY_SHARE = 60
"""Percent of a load that the start of the engine takes, where the nursery has to do it first."""

TELL_S = 1.0
"""Seconds after which those who wait for a load are told again how far it is."""


class Workers:
    """All models, each with the worker that it has or is to get."""

    def __init__(
        self,
        models: dict[str, Model],
        names: Names,
        desk: Desk,
        pipeline: Pipeline,
        devices: Sequence[Device],
        patience_s: float = PATIENCE_S,
        memory_wait_s: float = MEMORY_WAIT_S,
    ) -> None:
        self.models = models
        self.names = names
        self.desk = desk
        self.requests = desk.requests
        self.pipeline = pipeline
        self.adapters = Adapters(self)
        self.residents = Residents(self, devices, patience_s=patience_s, memory_wait_s=memory_wait_s)
        self._loads, self._unloads = Calls(), Calls()
        self._unwanted: set[int] = set()
        """Workers that were told to go before they had said anything: no model has them, and none adopts them."""

    @property
    def draining(self) -> bool:
        """The daemon shuts down: no worker is started but for requests that wait."""
        return self.desk.draining

    def waited_for(self, name: str) -> bool:
        """Return whether somebody waits for a model, or for an adapter of it."""
        return self._loads.any_of(name) or name in self.requests.queued or self.adapters.want_base(name)

    @property
    def waited(self) -> list[str]:
        """Return the models for which somebody waits; whose adapters are waited for is not among them."""
        return [*self.requests.queued, *self._loads.models]

    def connection_gone(self, conn: int) -> None:
        """Forget the calls of a connection."""
        self._loads.gone(conn)
        self._unloads.gone(conn)

    def refuse_waiting(self, now: float, model: Model, never: Never) -> list[do.Effect]:
        """Tell all who wait for a model that it does not fit."""
        out: list[do.Effect] = [do.Log("warning", f"model '{model.name}' is not loaded: {never.why}")]
        for record in self.requests.waiting(model.name):
            why, hint = (self.names.blot(text, record.rights) for text in (never.why, never.hint))
            out += self.desk.end(now, record, failed(record.id, "does_not_fit", why, hint, "model"))
        for one in self._loads.take(model.name):
            why, hint = (self.names.blot(text, one.rights) for text in (never.why, never.hint))
            out.append(refuse(one.conn, one.ref, "does_not_fit", why, hint))
        if model.crashes and model.state is State.COLD:  # it was there, and it shows why it is not any more
            model.why = f"{model.why}; {never.why}"
            out += self.move(now, model, Cause.GAVE_UP)
        return [*out, *self.adapters.refused(now, model, never)]

    def start(self, now: float, model: Model, on: tuple[int, ...]) -> list[do.Effect]:
        """Have a worker started for a model that has none, on these devices."""
        self.residents.forget(model.name)
        model.restart_at, model.on = None, on
        clear = do.ClearTimer(("restart", model.name))
        return [*self.move(now, model, Cause.WANTED), clear, do.StartWorker(model.name, on), *_tell_again(now, model)]

    def wake(self, now: float, model: Model) -> list[do.Effect]:
        """Have a worker wake its model, and tell those who wait for that."""
        assert model.worker is not None, "a model that sleeps has a worker"
        self.residents.forget(model.name)
        woken = [*self.move(now, model, Cause.WANTED), do.WakeWorker(model.name, model.worker)]
        return [*woken, *self.tell(now, model), *_tell_again(now, model)]

    def move(self, now: float, model: Model, cause: Cause) -> list[do.Effect]:
        base = model.adapts
        old, new = model.move(now, cause)
        self.residents.moved(model)
        ended = cause is Cause.GONE and old is not State.STOPPING  # by itself
        why = model.why if cause in FAULTS or ended else None
        value = {"model": model.name, "state": new.value, "was": old.value, "why": why or cause.value}
        bad = cause is Cause.DYING or (ended and not self.draining)
        level = "error" if new is State.FAILED else "warning" if bad else "info"
        text = f"model '{model.name}': {old.value} -> {new.value} ({value['why']})"
        told: list[do.Effect] = [do.Log(level, text, model.name), do.Publish("model", value)]  # type: ignore[arg-type]
        left = self.adapters.base_left(now, model) if old is State.READY else []
        if model.adapts != base:
            self.adapters.refresh()
        told += self._answer_unloads(model) if old is State.STOPPING else []
        return [*told, *self.pipeline.model_changed(now, value), *left]

    def load(self, e: on.LoadAsked) -> list[do.Effect]:
        """Start a model that somebody asks for, and answer now or when it is there."""
        name = self.names.usable(e.model, e.caller.account, e.caller.rights)
        if isinstance(name, Unusable):
            return [unusable(e.caller.conn, e.ref, name)]
        if self.draining:
            return [refuse(e.caller.conn, e.ref, "draining", "the daemon is shutting down", "try again later")]
        model = self.models[name]
        model.crashes = 0  # somebody cares: begin to count anew
        if model.state in AWAY:
            self.residents.want(e.now, model, hint=True)
        elif model.state in (State.STOPPING, State.DOZING):
            model.wanted_again = True
        call = Call(name, e.caller.conn, e.ref, e.caller.rights)
        self._loads.add(call)
        out = self.residents.place(e.now)
        if (not e.wait or model.state is State.READY) and self._loads.drop(call):
            out.append(do.Send(e.caller.conn, Result(e.ref, {"model": name, "state": model.state.value})))
        return out

    def unload(self, e: on.UnloadAsked) -> list[do.Effect]:
        """Stop a model's worker, and answer now or when its memory is free; its requests end only by force."""
        conn, ref = e.caller.conn, e.ref
        name = self.names.usable(e.model, e.caller.account, e.caller.rights)
        if isinstance(name, Unusable):
            return [unusable(conn, ref, name)]
        model = self.models[name]
        busy = self.requests_of(name)
        if busy and not e.force:
            message = f"model '{name}' is {model.state.value} and has {len(busy)} request{'s' * (len(busy) > 1)}"
            theirs = sum(record.model != name for record in busy)
            message += f", {theirs} of them for its adapters" if theirs else ""
            return [
                refuse(conn, ref, "conflict", message, f"wait for them, or `ingle unload --force {name}` ends them")
            ]
        out: list[do.Effect] = []
        for record in busy:
            end = failed(record.id, "cancelled", f"model '{name}' was unloaded", "ask again to load it", "client")
            out += self.desk.end_now(e.now, record, end)
        if model.state in STAYING:
            # Where the fork is still under way, its report is answered by the order to end it.
            stop = ending(model)
            out += [*self.move(e.now, model, Cause.UNWANTED), stop, *self._answer_loads(name, model)]
        elif model.state is State.FAILED:
            out += self.move(e.now, model, Cause.UNWANTED)
        elif name in self.residents.wanted or self.adapters.forget(name):
            self.residents.forget(name)
            out += self._answer_loads(name, model)
        elif model.restart_at is not None:
            model.restart_at = None
            out += [do.ClearTimer(("restart", name)), *self._answer_loads(name, model)]
        for other in self.adapters.family(name)[1:]:
            self.adapters.forget(other)
            out += self._answer_loads(other, self.models[other])
        self._unloads.add(Call(name, conn, ref, e.caller.rights))
        return out if e.wait and model.state is State.STOPPING else [*out, *self._answer_unloads(model)]

    def requests_of(self, name: str) -> list[Record]:
        """Return the requests that run on a model or wait for it, those for its adapters included."""
        family = self.adapters.family(name)
        return [record for one in family for record in self.requests.running(one) + self.requests.waiting(one)]

    def _answer_loads(self, name: str, model: Model) -> list[do.Effect]:
        """Answer the calls of `load` that wait for this model."""
        mine = self._loads.take(name)
        if model.state is State.FAILED:
            code, message, hint = why_failed(model)
            return [refuse(one.conn, one.ref, code, self.names.blot(message, one.rights), hint) for one in mine]
        value = {"model": name, "state": model.state.value}
        return [do.Send(one.conn, Result(one.ref, value)) for one in mine]

    def _answer_unloads(self, model: Model) -> list[do.Effect]:
        """Answer the calls of `unload` that wait for this model."""
        value = {"model": model.name, "state": model.state.value}
        return [do.Send(one.conn, Result(one.ref, value)) for one in self._unloads.take(model.name)]

    def forked(self, e: on.WorkerForked) -> list[do.Effect]:
        """The nursery has forked a worker; one that nobody waits for is told to go."""
        model = self.models.get(e.model)
        if model is not None and model.state is State.STOPPING and model.pid is None:
            model.pid = e.pid  # it was unwanted before it was born; its end is waited for
            return [do.StopWorker(e.model, None, e.pid)]
        if model is not None and model.state in SETTLED and model.pid == e.pid:
            return []  # it was quicker than its nursery's word of it
        if model is None or model.state is not State.LOADING or model.pid not in (None, e.pid):
            if model is None or model.pid != e.pid:
                self._unwanted.add(e.pid)
            return [do.StopWorker(e.model, None, e.pid)]
        model.pid, model.forked_at = e.pid, e.now
        model.story.add(e.now, f"worker {e.pid} forked")
        return _tell_again(e.now, model)

    def attached(self, e: on.WorkerAttached) -> list[do.Effect]:
        """A worker has come to the link, one of ours or one to adopt."""
        model = self.models.get(e.model)
        if model is not None and model.state is State.STOPPING and model.pid is None:
            model.pid = e.pid
        other = model is None or model.pid not in (None, e.pid) or e.pid in self._unwanted
        if model is None or other or model.state is State.STOPPING:
            return [do.StopWorker(e.model, e.worker, e.pid)]
        out: list[do.Effect] = []
        if model.state in (State.COLD, State.FAILED):
            model.restart_at = None
            out = [*self.move(e.now, model, Cause.ADOPTED), do.ClearTimer(("restart", model.name))]
            model.on = e.on or model.on
        model.worker, model.pid = e.worker, e.pid
        model.forked_at = e.now if model.forked_at is None else model.forked_at
        return [*out, *_tell_again(e.now, model)] if model.state is State.LOADING else out

    def loading(self, e: on.WorkerLoading) -> list[do.Effect]:
        """A worker says how far its load is."""
        model = self.models.get(e.model)
        if model is None or model.state is not State.LOADING or model.pid != e.pid:
            return []
        return self._loads_on(e.now, model, e.phase, model.base + e.percent * (100 - model.base) // 100)

    def nursery_attached(self, e: on.NurseryAttached) -> list[do.Effect]:
        """A new nursery knows of no order: forks that are wanted are ordered again, others will never come."""
        out: list[do.Effect] = []
        for model in self.models.values():
            if model.pid is None and model.state is State.LOADING:
                out.append(do.StartWorker(model.name, model.on))
            elif model.pid is None and model.state is State.STOPPING:
                out += self._stopped(e.now, model)
        return out

    def _stopped(self, now: float, model: Model) -> list[do.Effect]:
        """An unwanted worker has gone; somebody may have wanted another one meanwhile."""
        again = model.wanted_again
        out = self.move(now, model, Cause.GONE)
        self.residents.want(now, model, hint=again)
        return out

    def nursery_loading(self, e: on.NurseryLoading) -> list[do.Effect]:
        """The nursery says how far its own start is, for all that wait for a fork."""
        out: list[do.Effect] = []
        for model in self.models.values():
            if model.state is State.LOADING and model.pid is None:
                model.base = e.percent * NURSERY_SHARE // 100
                out += self._loads_on(e.now, model, "starting the engine", model.base)
        return out

    def _loads_on(self, now: float, model: Model, phase: str, percent: int) -> list[do.Effect]:
        """Its load has come so far."""
        model.phase, model.percent = phase, percent
        return self.tell(now, model)

    def tell(self, now: float, model: Model) -> list[do.Effect]:
        """Tell all who wait for a model, or for an adapter of it, how it is with it."""
        out: list[do.Effect] = []
        for name in self.adapters.family(model.name):
            news = told(shown(self.models, self.models[name]), now)
            queued = [(self.requests.records[one.id], i) for one, i in self.requests.turns[name].positions()]
            out += [do.Send(r.conn, self.desk.progress(now, r, i)) for r, i in queued if r.conn is not None]
            out += [do.Send(one.conn, self._news(news, one)) for one in self._loads.of(name)]
        return out

    def _news(self, news: Progress, one: Call) -> Progress:
        what = news.what if news.what is UNSET else self.names.blot(news.what, one.rights)
        return replace(news, ref=one.ref, what=what)

    def ready(self, e: on.WorkerReady) -> list[do.Effect]:
        """A worker can run requests: those that waited are given to it."""
        model = self.models.get(e.model)
        if model is not None and model.state is State.DOZING and model.pid == e.pid:  # a link has lost the order
            return [do.SleepWorker(model.name, model.worker or "", model.level)]
        opens = (State.LOADING, State.WAKING, State.CHECKING)
        if model is None or model.state not in opens or model.pid != e.pid:
            return []
        loaded, out = model.state is State.LOADING, self.opens(e.now, model, e.places)
        if loaded and e.load_s:  # the next load waits for no nursery, and an adopted worker was loaded long ago
            model.took(e.load_s)
        return out

    def opens(self, now: float, model: Model, places: int) -> list[do.Effect]:
        """A model that was being loaded takes requests."""
        out = self.move(now, model, Cause.READY)
        if model.ttl is not None:
            out.append(do.SetTimer(("ttl", model.name), now + model.ttl))
        out += self._answer_loads(model.name, model)
        model.places = places
        return out + self.desk.places.opened(now, model)

    def load_failed(self, e: on.LoadFailed) -> list[do.Effect]:
        """A model cannot be loaded; the engine said why."""
        model = self.models.get(e.model)
        if model is None or model.state is not State.LOADING or model.pid != e.pid:
            return []
        return self.fails(e.now, model, Cause.LOAD_FAILED, e.why, e.log)

    def fails(self, now: float, model: Model, cause: Cause, why: str, log: tuple[str, ...] = ()) -> list[do.Effect]:
        """A model cannot be loaded: tell all who wait for it."""
        model.why, model.log = why, log
        return [*self.move(now, model, cause), *self._fail_waiting(now, model)]

    def _fail_waiting(self, now: float, model: Model) -> list[do.Effect]:
        """Tell all who wait for a model that it will not come."""
        out: list[do.Effect] = []
        for record in self.requests.waiting(model.name):
            code, message, hint = why_failed(model)
            out += self.desk.end(
                now, record, failed(record.id, code, self.names.blot(message, record.rights), hint, "model")
            )
        return [*out, *self._answer_loads(model.name, model), *self.adapters.base_failed(now, model)]

    def engine_died(self, e: on.EngineDied) -> list[do.Effect]:
        """Its process is about to end; until then nothing more is given to it, and its requests wait for the next."""
        model = self.models.get(e.model)
        if model is None or model.pid != e.pid or model.state not in STAYING:
            return []
        model.why, model.dying = e.why, model.state not in ASLEEP or self.waited_for(model.name)
        stop = do.StopWorker(model.name, model.worker, model.pid)
        return [*self.move(e.now, model, Cause.DYING), stop]

    def worker_gone(self, e: on.WorkerGone) -> list[do.Effect]:
        """A worker has ended: what it ran waits for the next one, if there is to be one."""
        self._unwanted.discard(e.pid)
        model = self.models.get(e.model)
        if model is None or model.pid != e.pid:
            return []
        out: list[do.Effect] = []
        for record in self.requests.records.values():
            if record.worker == str(e.pid) and record.stage is not Stage.RUNNING:
                record.worker = None  # there is nobody left to release it
                out += [do.KeepWaiting(record)] if record.stage is Stage.QUEUED else []
        running = [record for one in self.adapters.family(e.model) for record in self.requests.running(one)]
        crashed = model.state is not State.STOPPING or model.dying
        needless = model.state in ASLEEP and not self.waited_for(model.name)
        if crashed:
            model.why = model.why if model.dying else f"the worker ended: {e.why}"
            model.story.add(e.now, model.why or e.why)
            model.log = e.log
            model.crashes = 1 if model.was_stable(e.now) else model.crashes + 1
        else:
            kept = [one for name in self.adapters.family(e.model) for one in self.desk.places.let_go(name)]
            return [*out, *kept, *self._stopped(e.now, model)]
        out += self.move(e.now, model, Cause.GONE)
        for record in running:
            out += self.desk.resume_later(e.now, record, model)
        if model.crashes > CRASHES:
            out += self._give_up(e.now, model)
        elif (not self.draining and not needless) or self.waited_for(e.model):
            model.restart_at = e.now + RESTART_S[min(model.crashes, len(RESTART_S)) - 1]
            out.append(do.SetTimer(("restart", model.name), model.restart_at))
        return out

    def _give_up(self, now: float, model: Model) -> list[do.Effect]:
        model.why = f"its worker died {model.crashes} times in a row; {model.why}"
        out = self.move(now, model, Cause.GAVE_UP)
        return [*out, *self._fail_waiting(now, model)]

    def nursery_failed(self, e: on.NurseryFailed) -> list[do.Effect]:
        """There is no nursery: what waits for a fork cannot be loaded."""
        out: list[do.Effect] = [do.Log("error", f"nursery: {e.why}")]
        for model in self.models.values():
            if model.state is State.LOADING and model.pid is None:
                out += self.fails(e.now, model, Cause.LOAD_FAILED, f"no nursery: {e.why}", e.log)
        return out

    def abandon(self, now: float, name: str, why: str) -> list[do.Effect]:
        """Fail a model after a bug of ours, so that the rest keeps working; its worker is stopped."""
        model = self.models[name]
        out: list[do.Effect] = [ending(model), *self.adapters.base_left(now, model)]
        model.abandon(now, why)
        self.residents.moved(model)
        for record in self.requests_of(name):
            out += self.desk.end(now, record, failed(record.id, "internal", why, "see the daemon's log", "daemon"))
        return [*out, *self._answer_loads(name, model), *self._answer_unloads(model)]

    def timer(self, e: on.TimerFired) -> list[do.Effect]:
        """The pause after a worker's death is over, or those are told again who wait for one that is being brought."""
        model = self.models.get(e.key[1])
        if e.key[0] == "tell":
            brought = model is not None and model.state in (State.LOADING, State.WAKING)
            return [*self.tell(e.now, model), *_tell_again(e.now, model)] if model and brought else []
        if model is not None and model.state is State.COLD and model.restart_at is not None:
            model.restart_at = None
            self.residents.want(e.now, model, hint=True)
        return []


def _tell_again(now: float, model: Model) -> list[do.Effect]:
    """Have those who wait told how far it is, now and then: where it is known how long it takes, time alone is news."""
    return [] if model.left_s(now) is None else [do.SetTimer(("tell", model.name), now + TELL_S)]
