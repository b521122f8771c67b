"""The core: `Control.handle(event)` returns effects and is the only way to change control state.

It never raises for what a client or a worker can cause. It raises `IllegalTransition` for a bug of ours: the shell
logs it, calls `abandon` for that model and keeps serving.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import assert_never

from ingle.wire.schema import Accepted

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import order
from ingled.core.admission import Admission
from ingled.core.catalog import Catalog
from ingled.core.desk import Desk, Limits
from ingled.core.naming import Names
from ingled.core.outcomes import refuse, request_event
from ingled.core.passage import Passage, Refusal
from ingled.core.pipeline import Pipeline, Rule
from ingled.core.placement import Device
from ingled.core.requests import Record, Stage
from ingled.core.residency import AWAY, Model, State
from ingled.core.residents import MEMORY_WAIT_S, PATIENCE_S, TIMERS
from ingled.core.workers import Workers


class Control:
    """All control state of the daemon."""

    def __init__(
        self,
        models: Sequence[Model],
        default: str,
        limits: Limits | None = None,
        held: Callable[[str], int] = lambda id: 0,
        made: Callable[[str], int] = lambda id: 0,
        rules: Mapping[str, Rule] = MappingProxyType({}),
        awaited: Iterable[str] = (),
        device: Device | Sequence[Device] | None = None,
        patience_s: float = PATIENCE_S,
        memory_wait_s: float = MEMORY_WAIT_S,
    ) -> None:
        """`held` tells how many bytes are held of a request's answer, `made` how many tokens it has (`Flow`).

        `rules` and `awaited` are the pipeline's. `device`: where models are, one or several.
        """
        self.models = {model.name: model for model in models}
        self.names = Names({model.name: model.aliases for model in models}, default)
        self.limits = limits or Limits()
        self.desk = Desk(self.models, self.limits, held, made, self.names.blot)
        self.requests = self.desk.requests
        self.pipeline = Pipeline(rules, self.names, awaited)
        self.admission = Admission(self.models, self.names, self.limits, self.requests, self.desk.quotas)
        self.passage = Passage(self.pipeline, self.desk, self.names, self.admission.model, self._give)
        devices = [device] if isinstance(device, Device) else device or [Device(whole=True)]
        self.workers = Workers(self.models, self.names, self.desk, self.pipeline, devices, patience_s, memory_wait_s)
        self.residents = self.workers.residents
        self.catalog = Catalog(self.workers)

    @property
    def draining(self) -> bool:
        """The daemon shuts down, and takes no new requests."""
        return self.workers.draining

    def abandon(self, now: float, name: str, why: str) -> list[do.Effect]:
        """Fail a model after a bug of ours, so that the rest keeps working; its worker is stopped."""
        return self.workers.abandon(now, name, why)

    def handle(self, event: on.Event) -> list[do.Effect]:
        """Take one event in; returns what the shell is to do, in order."""
        out = self._handle(event)
        out += self.desk.places.next(event.now)  # before others may take its memory
        out += self.residents.place(event.now)
        out += self.catalog.let_go(event.now)
        if self.draining and not self.desk.busy:
            out.append(do.Drained())
        return out

    def _handle(self, event: on.Event) -> list[do.Effect]:
        match event:  # what every request has comes first: each case before it is looked at
            case on.RequestArrived():
                return self._request(event)
            case on.RunEnded():
                return self.passage.run_ended(event)
            case on.Delivered():
                return self.desk.delivered(event)
            case on.PlaceFreed():
                return self.desk.freed(event)
            case on.TimerFired():
                return self._timer(event)
            case on.CancelAsked():
                return self.desk.cancel(event)
            case on.AttachAsked():
                return self.desk.attach(event)
            case on.LoadAsked():
                return self.workers.load(event)
            case on.UnloadAsked():
                return self.workers.unload(event)
            case on.PinAsked():
                return self.residents.pin(event)
            case on.WantAsked():
                return self.residents.hint(event)
            case on.YieldAsked():
                return self.residents.lenders.give_back(event)
            case on.SleepAsked():
                return self.residents.sleepers.asked(event)
            case on.WorkerAsleep():
                return self.residents.sleepers.asleep(event)
            case on.SleepFailed():
                return self.residents.sleepers.failed(event)
            case on.SuspendBegins():
                return self.residents.suspension.begins(event)
            case on.SuspendEnds():
                return self.residents.suspension.ends(event)
            case on.SleepSeen():
                if (model := self.models.get(event.model)) is not None:
                    model.sleep = event.sleep
                return []
            case on.MemoryShort():
                return self.residents.lenders.short(event)
            case on.HostSeen():
                self.residents.host = event.free
                return []
            case on.NeedSeen():
                return self.residents.need(event)
            case on.DeviceSeen():
                return self.residents.seen_device(event)
            case on.ConnectionGone():
                self.workers.connection_gone(event.conn)
                self.residents.sleepers.connection_gone(event.conn)
                gone = self.pipeline.provider_gone(f"conn:{event.conn}")
                return [*gone, *self.desk.connection_gone(event)]
            case on.WorkerForked():
                return self.workers.forked(event)
            case on.WorkerAttached():
                return self.workers.attached(event)
            case on.WorkerLoading():
                return self.workers.loading(event)
            case on.WorkerReady():
                return self.workers.ready(event)
            case on.LoadFailed():
                return self.workers.load_failed(event)
            case on.AdapterReady():
                return self.workers.adapters.ready(event)
            case on.AdapterFailed():
                return self.workers.adapters.failed(event)
            case on.AdapterGone():
                return self.workers.adapters.gone(event)
            case on.EngineDied():
                return self.workers.engine_died(event)
            case on.RequestAdopted():
                return self._adopted(event)
            case on.RequestsMissed():
                return self.desk.places.missed(event)
            case on.WorkerGone():
                return self.workers.worker_gone(event)
            case on.NurseryAttached():
                return self.workers.nursery_attached(event)
            case on.NurseryLoading():
                return self.workers.nursery_loading(event)
            case on.NurseryFailed():
                return self.workers.nursery_failed(event)
            case on.RunFailed():
                return self.desk.run_failed(event)
            case on.HookOffered():
                return self.pipeline.offer(event)
            case on.HookWithdrawn():
                return self.pipeline.withdraw(event)
            case on.PluginsOffered():
                return self.passage.plugins(event)
            case on.PluginsAwaited():
                return self.pipeline.awaited(event)
            case on.HookReplied():
                return self.passage.replied(event)
            case on.HookFailed():
                return self.passage.failed(event)
            case on.Observed():
                return self.pipeline.observed(event)
            case on.ObserverFailed():
                return self.pipeline.observer_failed(event)
            case on.HookAgain():
                return self.passage.again(event)
            case on.StationsEnded():
                return self.passage.stations_ended(event)
            case on.StationStopped():
                return self.passage.station_stopped(event)
            case on.StationFailed():
                return self.passage.station_failed(event)
            case on.SettingsChanged():
                self.limits = self.desk.limits = self.admission.limits = event.limits
                self.pipeline.rules = event.hooks
                self.residents.patience_s, self.residents.memory_wait_s = event.patience_s, event.memory_wait_s
                return []
            case on.ModelsChanged():
                return self.catalog.changed(event)
            case on.DrainAsked():
                value = {"what": "draining"}
                return [do.Log("info", "draining"), do.Publish("daemon", value), *self.desk.drain(event.now)]
            case on.DrainExpired():
                return self.desk.drain_expired(event.now)
            case _:
                assert_never(event)

    def _timer(self, e: on.TimerFired) -> list[do.Effect]:
        if e.key[0] in TIMERS:
            return self.residents.timer(e)
        return self.workers.timer(e) if e.key[0] in ("restart", "tell") else self.desk.timer(e)

    def _request(self, e: on.RequestArrived) -> list[do.Effect]:
        conn, account, rights = e.caller.conn, e.caller.account, e.caller.rights
        refusal = self.admission.arrives(e, draining=self.draining)
        if refusal is not None:
            return [_refuse(e, refusal)]
        model = self.names.find(e.model) or e.model or ""
        record = Record(e.id, account, conn, model, e.op, e.body, e.stream, e.detach, e.grace_ms, 0, e.now)
        record.rights, record.priority = rights, order(e.priority, rights.priority)
        record.origin, record.client, record.tags, record.trace = conn, e.client, e.tags, e.trace
        record.context = list(e.context)
        if e.deadline_ms is not None:
            record.deadline_at = e.now + e.deadline_ms / 1000
        opened: list[do.Effect] = [do.OpenStream(e.id, account, conn, e.credit, e.detach)]
        if record.deadline_at is not None:
            opened.append(do.SetTimer(("deadline", e.id), record.deadline_at))
        accepted = do.Send(conn, Accepted(e.ref, e.id))
        filtered = self.passage.arrives(e.now, record, e.model)
        if filtered is not None:
            self.requests.add(record)
            return [*opened, do.KeepWaiting(record), accepted, *filtered]
        refusal = self.admission.model(e.now, record, e.model)
        if refusal is not None:
            return [_refuse(e, refusal)]
        self.requests.add(record)
        return [*opened, *self.passage.prompt(e.now, record, accepted)]

    def _give(self, now: float, record: Record, accepted: do.Effect | None) -> list[do.Effect]:
        """Run a request, or let it wait for its model or a place there."""
        told = [accepted] if accepted else []
        first, end = self.passage.watch(now, record)
        if end is not None:
            return [*told, *end]
        model = self.models[record.model]
        self.residents.used(now, model)
        # What is accepted is with the worker, should this process die now.
        if self.desk.places.takes(now, record):
            given, event = self.desk.places.run(now, record)
            return [*first, given, *told, event]
        record.waited = True
        self.requests.move(record, Stage.QUEUED)
        held = self.desk.places.hold(record) if model.state is State.READY else [do.KeepWaiting(record)]
        out = [*first, *held, *told]
        if model.state in AWAY and model.restart_at is None:
            self.residents.want(now, model)
            out += self.residents.place(now)
            if record.stage is not Stage.QUEUED:
                return out  # it will not fit
        if record.conn is not None:
            position = self.requests.turns[model.name].position(record)
            out.append(do.Send(record.conn, self.desk.progress(now, record, position)))
        out.append(request_event(record))
        return out

    def _adopted(self, e: on.RequestAdopted) -> list[do.Effect]:
        """Take over a request of an earlier daemon; one that no worker holds waits for its model or hooks again."""
        record, filtering = e.record, e.record.stage is Stage.FILTERING
        out = self.desk.adopted(e)
        if not out or record.worker is not None:
            return out
        out.append(do.KeepWaiting(record))
        if filtering:
            return [*out, *self.passage.adopted(e.now, record)]
        model = self.models[record.model]
        if model.state is State.READY:
            out += self.desk.places.hold(record)
        elif model.state in AWAY and model.restart_at is None:
            self.residents.want(e.now, model)
        return out


def _refuse(e: on.RequestArrived, why: Refusal) -> do.Send:
    code, message, hint, at, retry = why
    return refuse(e.caller.conn, e.ref, code, message, hint, at=at, retry=retry)
