"""The core: `Control.handle(event)` returns effects and is the only way to change control state.

It never raises for what a client or a worker can cause. It raises `IllegalTransition` for a bug of ours: the shell
logs it, calls `abandon` for that model and keeps serving.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from ingle.wire.schema import Accepted, Progress, Result
from msgspec.structs import replace

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.desk import Desk, Limits
from ingled.core.naming import Names
from ingled.core.outcomes import failed, refuse, request_event, why_failed
from ingled.core.passage import Passage, Refusal
from ingled.core.pipeline import Pipeline
from ingled.core.requests import Record, Stage
from ingled.core.residency import CRASHES, Cause, Model, State

RESTART_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a worker that died is replaced, by its deaths in a row."""

NURSERY_SHARE = 60
"""Percent of a load that the start of the engine takes, where the nursery has to do it first."""


class Control:
    """All control state of the daemon."""

    def __init__(
        self,
        models: Sequence[Model],
        default: str,
        limits: Limits | None = None,
        held: Callable[[str], int] = lambda id: 0,
        pipeline: Pipeline | None = None,
    ) -> None:
        """`held` tells how many bytes are held of a request's answer (`Flow.held`)."""
        self.models = {model.name: model for model in models}
        self.names = Names({model.name: model.aliases for model in models}, default)
        self.limits = limits or Limits()
        self.desk = Desk(self.models, self.limits, held)
        self.requests = self.desk.requests
        self.pipeline = pipeline or Pipeline({}, waiting=False)
        self.passage = Passage(self.pipeline, self.desk, self._admit, self._give)
        self.draining = False
        self._loads: list[tuple[str, int, int]] = []
        """Calls of `load` that wait: model, connection, ref."""

    def handle(self, event: on.Event) -> list[do.Effect]:
        """Take one event in; returns what the shell is to do, in order."""
        out = self._handle(event)
        if self.draining and not self.desk.busy:
            out.append(do.Drained())
        return out

    def _handle(self, event: on.Event) -> list[do.Effect]:
        match event:
            case on.RequestArrived():
                return self._request(event)
            case on.CancelAsked():
                return self.desk.cancel(event)
            case on.AttachAsked():
                return self.desk.attach(event)
            case on.LoadAsked():
                return self._load(event)
            case on.UnloadAsked():
                return self._unload(event)
            case on.ConnectionGone():
                self._loads = [load for load in self._loads if load[1] != event.conn]
                gone = self.pipeline.provider_gone(f"conn:{event.conn}")
                return [*gone, *self.desk.connection_gone(event)]
            case on.Delivered():
                return self.desk.delivered(event)
            case on.WorkerForked():
                return self._forked(event)
            case on.WorkerAttached():
                return self._attached(event)
            case on.WorkerLoading():
                return self._loading(event)
            case on.WorkerReady():
                return self._ready(event)
            case on.LoadFailed():
                return self._load_failed(event.now, event.model, event.pid, Cause.LOAD_FAILED, event.why, event.log)
            case on.EngineDied():
                return self._engine_died(event)
            case on.RequestAdopted():
                return self.desk.adopted(event)
            case on.RequestsMissed():
                return self.desk.missed(event)
            case on.WorkerGone():
                return self._worker_gone(event)
            case on.NurseryAttached():
                return self._nursery_attached(event)
            case on.NurseryLoading():
                return self._nursery_loading(event)
            case on.NurseryFailed():
                return self._nursery_failed(event)
            case on.RunEnded():
                return self.passage.run_ended(event)
            case on.RunFailed():
                return self.desk.run_failed(event)
            case on.HookOffered():
                return self.pipeline.offer(event)
            case on.HookWithdrawn():
                return self.pipeline.withdraw(event)
            case on.PluginsOffered():
                return self.passage.plugins(event)
            case on.HookReplied():
                return self.passage.replied(event)
            case on.HookFailed():
                return self.passage.failed(event)
            case on.HookAgain():
                return self.passage.again(event)
            case on.StagesEnded():
                return self.passage.stages_ended(event)
            case on.StageStopped():
                return self.passage.stage_stopped(event)
            case on.StageFailed():
                return self.passage.stage_failed(event)
            case on.TimerFired():
                return self._restart(event) if event.key[0] == "restart" else self.desk.timer(event)
            case on.DrainAsked():
                self.draining = True
                value = {"what": "draining"}
                return [do.Log("info", "draining"), do.Publish("daemon", value)]
            case on.DrainExpired():
                return self.desk.drain_expired()
            case _:
                assert_never(event)

    def _request(self, e: on.RequestArrived) -> list[do.Effect]:
        conn, account = e.caller.conn, e.caller.account
        if self.draining:
            return [refuse(conn, e.ref, "draining", "the daemon is shutting down", "try again when it is back")]
        if self.requests.open_of(account) >= self.limits.open_requests:
            n = self.limits.open_requests
            return [
                refuse(conn, e.ref, "over_limit", f"account {account} has {n} open requests, the limit", "let some end")
            ]
        model = self.names.find(e.model) or e.model or ""
        record = Record(e.id, account, conn, model, e.op, e.body, e.stream, e.detach, e.grace_ms, e.priority, e.now)
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
            return [*opened, accepted, *filtered]
        refusal = self._admit(e.now, record, e.model)
        if refusal is not None:
            code, message, hint, at, retry = refusal
            return [refuse(conn, e.ref, code, message, hint, at=at, retry=retry)]
        self.requests.add(record)
        return [*opened, *self.passage.prompt(e.now, record, accepted)]

    def _admit(self, now: float, record: Record, wanted: str | None) -> Refusal | None:
        """Settle the model of a request, or say why it cannot be run."""
        name = self.names.find(wanted)
        if name is None:
            return Refusal("no_such_model", *self.names.explain(wanted or ""), at="model")
        model = self.models[name]
        waiting = len(self.requests.at(Stage.QUEUED, name))
        if waiting >= self.limits.queue:
            return Refusal("queue_full", f"{waiting} requests wait for model '{name}'", "try again later")
        if model.state is State.FAILED and now < model.retry_at:
            return Refusal(*why_failed(model), retry=model.retry_at - now)
        record.model = name
        return None

    def _give(self, now: float, record: Record, accepted: do.Effect | None) -> list[do.Effect]:
        """Run a request, or let it wait for its model."""
        told = [accepted] if accepted else []
        first, end = self.passage.watch(now, record)
        if end is not None:
            return [*told, *end]
        model = self.models[record.model]
        if model.state is State.READY:
            given, event = self.desk.run(now, record)
            return [*first, given, *told, event]  # what is accepted is with the worker, should this process die now
        record.waited, position = True, len(self.requests.at(Stage.QUEUED, model.name))
        if record.stage is Stage.QUEUED:
            position -= 1  # itself
        record.stage = Stage.QUEUED
        out = [*first, *told]
        if model.state in (State.COLD, State.FAILED) and model.restart_at is None:
            out += self._start(now, model)
        if record.conn is not None:
            out.append(do.Send(record.conn, self.desk.progress(record, position)))
        out.append(request_event(record))
        return out

    def _start(self, now: float, model: Model) -> list[do.Effect]:
        model.restart_at = None
        clear = do.ClearTimer(("restart", model.name))
        return [*self._move(now, model, Cause.WANTED), clear, do.StartWorker(model.name)]

    def _move(self, now: float, model: Model, cause: Cause) -> list[do.Effect]:
        old, new = model.move(now, cause)
        value = {"model": model.name, "state": new.value, "was": old.value, "why": model.why or cause.value}
        level = "error" if new is State.FAILED else "info"
        text = f"model '{model.name}': {old.value} -> {new.value} ({value['why']})"
        told: list[do.Effect] = [do.Log(level, text), do.Publish("model", value)]  # type: ignore[arg-type]
        return [*told, *self.pipeline.model_changed(now, value)]

    def _load(self, e: on.LoadAsked) -> list[do.Effect]:
        name = self.names.find(e.model)
        if name is None:
            return [refuse(e.caller.conn, e.ref, "no_such_model", *self.names.explain(e.model), at="args.model")]
        if self.draining:
            return [refuse(e.caller.conn, e.ref, "draining", "the daemon is shutting down", "try again later")]
        model = self.models[name]
        out: list[do.Effect] = []
        model.crashes = 0  # somebody cares: begin to count anew
        if model.state in (State.COLD, State.FAILED):
            out = self._start(e.now, model)
        elif model.state is State.STOPPING:
            model.wanted_again = True
        if e.wait and model.state is not State.READY:
            self._loads.append((name, e.caller.conn, e.ref))
        else:
            out.append(do.Send(e.caller.conn, Result(e.ref, {"model": name, "state": model.state.value})))
        return out

    def _unload(self, e: on.UnloadAsked) -> list[do.Effect]:
        conn, ref = e.caller.conn, e.ref
        name = self.names.find(e.model)
        if name is None:
            return [refuse(conn, ref, "no_such_model", *self.names.explain(e.model), at="args.model")]
        model = self.models[name]
        busy = self.requests.at(Stage.RUNNING, name) + self.requests.at(Stage.QUEUED, name)
        if busy and not e.force:
            message = f"model '{name}' is {model.state.value} and has {len(busy)} requests"
            return [refuse(conn, ref, "conflict", message, "wait for them, or unload with force to end them")]
        out: list[do.Effect] = []
        for record in busy:
            end = failed(record.id, "cancelled", f"model '{name}' was unloaded", "ask again to load it", "client")
            out += self.desk.end_now(record, end)
        if model.state in (State.LOADING, State.READY):
            worker, pid = model.worker, model.pid
            # Where the fork is still under way, its report is answered by the order to end it.
            out += [*self._move(e.now, model, Cause.UNWANTED), do.StopWorker(name, worker, pid)]
            out += self._answer_loads(name, model)
        elif model.state is State.FAILED:
            out += self._move(e.now, model, Cause.UNWANTED)
        elif model.restart_at is not None:
            model.restart_at = None
            out += [do.ClearTimer(("restart", name)), *self._answer_loads(name, model)]
        return [*out, do.Send(conn, Result(ref, {"model": name, "state": model.state.value}))]

    def _answer_loads(self, name: str, model: Model) -> list[do.Effect]:
        """Answer the calls of `load` that wait for this model."""
        mine = [load for load in self._loads if load[0] == name]
        self._loads = [load for load in self._loads if load[0] != name]
        if model.state is State.FAILED:
            return [refuse(conn, ref, *why_failed(model)) for _, conn, ref in mine]
        value = {"model": name, "state": model.state.value}
        return [do.Send(conn, Result(ref, value)) for _, conn, ref in mine]

    def _forked(self, e: on.WorkerForked) -> list[do.Effect]:
        model = self.models.get(e.model)
        if model is not None and model.state is State.STOPPING and model.pid is None:
            model.pid = e.pid  # it was unwanted before it was born; its end is waited for
            return [do.StopWorker(e.model, None, e.pid)]
        if model is None or model.state is not State.LOADING or model.pid not in (None, e.pid):
            return [do.StopWorker(e.model, None, e.pid)]
        model.pid = e.pid
        model.story.add(e.now, f"worker {e.pid} forked")
        return []

    def _attached(self, e: on.WorkerAttached) -> list[do.Effect]:
        model = self.models.get(e.model)
        if model is not None and model.state is State.STOPPING and model.pid is None:
            model.pid = e.pid
        if model is None or (model.pid is not None and model.pid != e.pid) or model.state is State.STOPPING:
            return [do.StopWorker(e.model, e.worker, e.pid)]
        out: list[do.Effect] = []
        if model.state in (State.COLD, State.FAILED):
            model.restart_at = None
            out = [*self._move(e.now, model, Cause.ADOPTED), do.ClearTimer(("restart", model.name))]
        model.worker, model.pid = e.worker, e.pid
        return out

    def _loading(self, e: on.WorkerLoading) -> list[do.Effect]:
        model = self.models.get(e.model)
        if model is None or model.state is not State.LOADING or model.pid != e.pid:
            return []
        return self._tell(model, e.phase, model.base + e.percent * (100 - model.base) // 100)

    def _nursery_attached(self, e: on.NurseryAttached) -> list[do.Effect]:
        """A new nursery knows of no order: forks that are wanted are ordered again, others will never come."""
        out: list[do.Effect] = []
        for model in self.models.values():
            if model.pid is None and model.state is State.LOADING:
                out.append(do.StartWorker(model.name))
            elif model.pid is None and model.state is State.STOPPING:
                out += self._stopped(e.now, model)
        return out

    def _stopped(self, now: float, model: Model) -> list[do.Effect]:
        """An unwanted worker has gone; somebody may have wanted another one meanwhile."""
        again = model.wanted_again or bool(self.requests.at(Stage.QUEUED, model.name))
        out = self._move(now, model, Cause.GONE)
        if again and not self.draining:
            out += self._start(now, model)
        return out

    def _nursery_loading(self, e: on.NurseryLoading) -> list[do.Effect]:
        out: list[do.Effect] = []
        for model in self.models.values():
            if model.state is State.LOADING and model.pid is None:
                model.base = e.percent * NURSERY_SHARE // 100
                out += self._tell(model, "starting the engine", model.base)
        return out

    def _tell(self, model: Model, phase: str, percent: int) -> list[do.Effect]:
        """Tell all who wait for a model how far it is."""
        model.phase, model.percent = phase, percent
        queued = self.requests.at(Stage.QUEUED, model.name)
        told = Progress("loading", percent=percent, what=model.doing)
        return [
            *(do.Send(r.conn, self.desk.progress(r, i)) for i, r in enumerate(queued) if r.conn is not None),
            *(do.Send(conn, replace(told, ref=ref)) for name, conn, ref in self._loads if name == model.name),
        ]

    def _ready(self, e: on.WorkerReady) -> list[do.Effect]:
        model = self.models.get(e.model)
        if model is None or model.state is not State.LOADING or model.pid != e.pid:
            return []
        out = self._move(e.now, model, Cause.READY)
        out += self._answer_loads(model.name, model)
        for record in self.requests.at(Stage.QUEUED, model.name):
            out += self.desk.run(e.now, record)
        return out

    def _load_failed(
        self, now: float, name: str, pid: int, cause: Cause, why: str, log: tuple[str, ...]
    ) -> list[do.Effect]:
        model = self.models.get(name)
        if model is None or model.state is not State.LOADING or model.pid not in (None, pid):
            return []
        model.why, model.log = why, log
        out = self._move(now, model, cause)
        return [*out, *self._fail_waiting(now, model)]

    def _fail_waiting(self, now: float, model: Model) -> list[do.Effect]:
        """Tell all who wait for a model that it will not come."""
        out: list[do.Effect] = []
        for record in self.requests.at(Stage.QUEUED, model.name):
            code, message, hint = why_failed(model)
            out += self.desk.end(now, record, failed(record.id, code, message, hint, "model"))
        return [*out, *self._answer_loads(model.name, model)]

    def _engine_died(self, e: on.EngineDied) -> list[do.Effect]:
        """Its process is about to end; until then nothing more is given to it, and its requests wait for the next."""
        model = self.models.get(e.model)
        if model is None or model.pid != e.pid or model.state not in (State.READY, State.LOADING):
            return []
        model.why, model.dying = e.why, True
        stop = do.StopWorker(model.name, model.worker, model.pid)
        return [*self._move(e.now, model, Cause.DYING), stop]

    def _worker_gone(self, e: on.WorkerGone) -> list[do.Effect]:
        model = self.models.get(e.model)
        if model is None or model.pid != e.pid:
            return []
        out: list[do.Effect] = []
        for record in self.requests.records.values():
            if record.worker == str(e.pid) and record.stage is not Stage.RUNNING:
                record.worker = None  # there is nobody left to release it
        running = self.requests.at(Stage.RUNNING, e.model)
        crashed = model.state is not State.STOPPING or model.dying
        if crashed:
            model.why = model.why if model.dying else f"the worker ended: {e.why}"
            model.log = e.log
            model.crashes = 1 if model.was_stable(e.now) else model.crashes + 1
        else:
            return [*out, *self._stopped(e.now, model)]
        out += self._move(e.now, model, Cause.GONE)
        for record in running:
            out += self.desk.resume_later(e.now, record, model)
        if model.crashes > CRASHES:
            out += self._give_up(e.now, model)
        elif not self.draining or self.requests.at(Stage.QUEUED, e.model):
            model.restart_at = e.now + RESTART_S[min(model.crashes, len(RESTART_S)) - 1]
            out.append(do.SetTimer(("restart", model.name), model.restart_at))
        return out

    def _give_up(self, now: float, model: Model) -> list[do.Effect]:
        model.why = f"its worker died {model.crashes} times in a row; {model.why}"
        out = self._move(now, model, Cause.GAVE_UP)
        return [*out, *self._fail_waiting(now, model)]

    def _nursery_failed(self, e: on.NurseryFailed) -> list[do.Effect]:
        out: list[do.Effect] = [do.Log("error", f"nursery: {e.why}")]
        for model in self.models.values():
            if model.state is State.LOADING and model.pid is None:
                out += self._load_failed(e.now, model.name, 0, Cause.LOAD_FAILED, f"no nursery: {e.why}", e.log)
        return out

    def abandon(self, now: float, name: str, why: str) -> list[do.Effect]:
        """Fail a model after a bug of ours, so that the rest keeps working; its worker is stopped."""
        model = self.models[name]
        worker, pid = model.worker, model.pid
        model.abandon(now, why)
        out: list[do.Effect] = [do.StopWorker(name, worker, pid)]
        for record in self.requests.at(Stage.RUNNING, name) + self.requests.at(Stage.QUEUED, name):
            out += self.desk.end(now, record, failed(record.id, "internal", why, "see the daemon's log", "daemon"))
        return [*out, *self._answer_loads(name, model)]

    def _restart(self, e: on.TimerFired) -> list[do.Effect]:
        model = self.models[e.key[1]]
        return self._start(e.now, model) if model.state is State.COLD and model.restart_at is not None else []
