"""The core: `Control.handle(event)` returns effects and is the only way to change control state.

It never raises for what a client or a worker can cause. It raises `IllegalTransition` for a bug of ours: the shell
logs it, calls `abandon` for that model and keeps serving.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from ingle.wire.limits import OPEN_REQUESTS
from ingle.wire.schema import Accepted, Code, Done, Failed, Finish, ModelRef, Progress, Result, Timings, Usage
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.naming import Names
from ingled.core.outcomes import failed, ms, no_such_request, refuse, request_event, why_failed
from ingled.core.requests import Record, Requests, Stage
from ingled.core.residency import CRASHES, Cause, Model, State

RESUMES = 3
"""How often a request goes on after the death of its worker, before it is held to be the cause."""

RESTART_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a worker that died is replaced, by its deaths in a row."""

ADOPTED_GRACE_MS = 30_000
"""Shortest time for a client to come back after the daemon itself was replaced."""

RECORD_BYTES = 2048
"""What a kept request takes beside its text."""

NURSERY_SHARE = 60
"""Percent of a load that the start of the engine takes, where the nursery has to do it first."""

FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length", "repetition": "repetition"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the configuration sets."""

    queue: int = 1024
    """Most requests that wait for one model."""
    open_requests: int = OPEN_REQUESTS
    """Most open requests of one account."""
    keep_s: float = 600.0
    """Seconds for which the answer of a detached request is held."""
    keep_bytes: int = 64 << 20
    """Most bytes of answers held for detached requests; the oldest go first."""


class Control:
    """All control state of the daemon."""

    def __init__(
        self,
        models: Sequence[Model],
        default: str,
        limits: Limits | None = None,
        held: Callable[[str], int] = lambda id: 0,
    ) -> None:
        """`held` tells how many bytes are held of a request's answer (`Flow.held`)."""
        self.models = {model.name: model for model in models}
        self.names = Names({model.name: model.aliases for model in models}, default)
        self.requests = Requests()
        self.limits = limits or Limits()
        self.draining = False
        self._loads: list[tuple[str, int, int]] = []
        """Calls of `load` that wait: model, connection, ref."""
        self._held = held

    def handle(self, event: on.Event) -> list[do.Effect]:
        """Take one event in; returns what the shell is to do, in order."""
        match event:
            case on.RequestArrived():
                return self._request(event)
            case on.CancelAsked():
                return self._cancel(event)
            case on.AttachAsked():
                return self._attach(event)
            case on.LoadAsked():
                return self._load(event)
            case on.UnloadAsked():
                return self._unload(event)
            case on.ConnectionGone():
                return self._connection_gone(event)
            case on.Delivered():
                return self._delivered(event)
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
                return self._adopted(event)
            case on.RequestsMissed():
                return self._missed(event)
            case on.WorkerGone():
                return self._worker_gone(event)
            case on.NurseryAttached():
                return self._nursery_attached(event)
            case on.NurseryLoading():
                return self._nursery_loading(event)
            case on.NurseryFailed():
                return self._nursery_failed(event)
            case on.RunEnded():
                return self._run_ended(event)
            case on.RunFailed():
                return self._run_failed(event)
            case on.TimerFired():
                return self._timer(event)
            case on.DrainAsked():
                self.draining = True
                value = {"what": "draining"}
                return [do.Log("info", "draining"), do.Publish("daemon", value), *self._if_drained()]
            case on.DrainExpired():
                return self._drain_expired()
            case _:
                assert_never(event)

    # ------------------------------------------------------------ requests

    def _request(self, e: on.RequestArrived) -> list[do.Effect]:
        def no(code: Code, message: str, hint: str, at: str | UnsetType = UNSET) -> list[do.Effect]:
            return [refuse(e.caller.conn, e.ref, code, message, hint, at=at)]

        if self.draining:
            return no("draining", "the daemon is shutting down", "try again when it is back")
        name = self.names.find(e.model)
        if name is None:
            return no("no_such_model", *self.names.explain(e.model or ""), at="model")
        model = self.models[name]
        if self.requests.open_of(e.caller.account) >= self.limits.open_requests:
            n = self.limits.open_requests
            return no("over_limit", f"account {e.caller.account} has {n} open requests, the limit", "let some end")
        waiting = self.requests.at(Stage.QUEUED, name)
        if len(waiting) >= self.limits.queue:
            return no("queue_full", f"{len(waiting)} requests wait for model '{name}'", "try again later")
        if model.state is State.FAILED and e.now < model.retry_at:
            return [refuse(e.caller.conn, e.ref, *why_failed(model), retry=model.retry_at - e.now)]
        record = Record(
            e.id, e.caller.account, e.caller.conn, name, e.op, e.body, e.stream, e.detach, e.grace_ms, e.priority, e.now
        )
        if e.deadline_ms is not None:
            record.deadline_at = e.now + e.deadline_ms / 1000
        self.requests.records[e.id] = record
        out: list[do.Effect] = [
            do.Send(e.caller.conn, Accepted(e.ref, e.id)),
            do.OpenStream(e.id, e.caller.account, e.caller.conn, e.credit, e.detach),
        ]
        if record.deadline_at is not None:
            out.append(do.SetTimer(("deadline", e.id), record.deadline_at))
        if model.state is State.READY:
            return [*out, *self._run(e.now, record)]
        record.waited = True
        if model.state in (State.COLD, State.FAILED) and model.restart_at is None:
            out += self._start(e.now, model)
        out.append(do.Send(e.caller.conn, self._progress(record, len(waiting))))
        out.append(request_event(record))
        return out

    def _progress(self, record: Record, position: int) -> Progress:
        model = self.models[record.model]
        if model.state is State.LOADING:
            return Progress("loading", record.id, position=position, percent=model.percent, what=model.doing)
        return Progress("queued", record.id, position=position, what=f"{model.name} is {model.state.value}")

    def _run(self, now: float, record: Record) -> list[do.Effect]:
        worker = self.models[record.model].worker
        assert worker is not None, "a ready model has a worker"
        record.stage, record.worker, record.run_at = Stage.RUNNING, worker, now
        return [do.RunRequest(worker, record), request_event(record)]

    def _cancel(self, e: on.CancelAsked) -> list[do.Effect]:
        record = self.requests.records.get(e.id)
        if record is None or not (e.caller.admin or record.account == e.caller.account):
            return [no_such_request(e.caller.conn, e.ref, e.id)]
        state = record.stage.value
        out = self._end_now(record, failed(record.id, "cancelled", "the request was cancelled", "", "client"))
        value = {"cancelled": record.stage is not Stage.KEPT, "state": state}
        return [*out, do.Send(e.caller.conn, Result(e.ref, value)), *self._if_drained()]

    def _end_now(self, record: Record, end: Failed | None) -> list[do.Effect]:
        """End a request wherever it is; text that was not taken is dropped."""
        out: list[do.Effect] = []
        if record.stage is Stage.RUNNING and record.worker is not None:
            out.append(do.AbortRequest(record.worker, record.id))
            record.worker = None
        out.append(do.CutStream(record.id, end))
        return [*out, *self._forget(record, failed=True)]

    def _forget(self, record: Record, *, failed: bool = False) -> list[do.Effect]:
        del self.requests.records[record.id]
        if record.stage in (Stage.QUEUED, Stage.RUNNING):
            self.requests.failed_total += failed
        state = "cancelled" if failed and record.stage in (Stage.QUEUED, Stage.RUNNING) else "over"
        out: list[do.Effect] = [do.ClearTimer((kind, record.id)) for kind in ("deadline", "grace", "keep")]
        if record.worker is not None:
            out.append(do.ReleaseRequest(record.worker, record.id))
        return [*out, request_event(record, state)]

    def _attach(self, e: on.AttachAsked) -> list[do.Effect]:
        record = self.requests.records.get(e.id)
        if record is None or not (e.caller.admin or record.account == e.caller.account):
            return [no_such_request(e.caller.conn, e.ref, e.id)]
        out: list[do.Effect] = []
        if record.conn is not None and record.conn != e.caller.conn:
            taken = failed(record.id, "conflict", "another connection reads this request now", "attach again", "client")
            out.append(do.Send(record.conn, taken))
        record.conn = e.caller.conn
        out.append(do.ClearTimer(("grace", e.id)))
        out.append(do.AttachStream(e.id, e.caller.conn, e.ref, e.offset, e.credit))
        return out

    def _connection_gone(self, e: on.ConnectionGone) -> list[do.Effect]:
        out: list[do.Effect] = []
        self._loads = [load for load in self._loads if load[1] != e.conn]
        for record in [r for r in self.requests.records.values() if r.conn == e.conn]:
            if record.detach or (record.grace_ms and not e.left):
                record.conn = None
                out.append(do.DetachStream(record.id))
                if not record.detach:
                    out.append(do.SetTimer(("grace", record.id), e.now + record.grace_ms / 1000))
                elif record.stage is Stage.ENDING:
                    out += self._keep(e.now, record)
            else:
                out += self._end_now(record, None)
        return [*out, *self._if_drained()]

    def _delivered(self, e: on.Delivered) -> list[do.Effect]:
        record = self.requests.records.get(e.id)
        if record is None:
            return []
        if record.detach:
            record.conn = None  # it has all of it
            return [do.DetachStream(record.id), *self._keep(e.now, record)]
        return [do.CutStream(record.id), *self._forget(record), *self._if_drained()]

    def _keep(self, now: float, record: Record) -> list[do.Effect]:
        """Hold the answer of a detached request; the oldest that nobody reads go when there is too much."""
        if record.stage is Stage.KEPT:
            return []
        record.stage = Stage.KEPT
        out: list[do.Effect] = [do.SetTimer(("keep", record.id), now + self.limits.keep_s)]
        kept = self.requests.at(Stage.KEPT)
        size = sum(self._held(one.id) + RECORD_BYTES for one in kept)
        for oldest in kept[:-1]:
            if size <= self.limits.keep_bytes:
                break
            if oldest.conn is None:
                size -= self._held(oldest.id) + RECORD_BYTES
                out += [do.CutStream(oldest.id), *self._forget(oldest)]
        return [*out, *self._if_drained()]

    def _run_ended(self, e: on.RunEnded) -> list[do.Effect]:
        record = self.requests.records.get(e.id)
        if record is None or record.stage is not Stage.RUNNING:
            return []
        finish = FINISHES.get(e.finish)
        usage = Usage(e.prompt, e.cached, e.completion)
        if finish is None:
            message = f"the engine ended the request with '{e.finish}'"
            return self._end(e.now, record, failed(e.id, "engine_error", message, "try again", "worker", usage=usage))
        model = self.models[record.model]
        ready_at = max(record.arrived, min(model.since, record.run_at)) if record.waited else record.arrived
        times = Timings(
            queued=ms(record.run_at - ready_at),
            load=ms(ready_at - record.arrived),
            first=round(e.first_ms, 3),
            total=ms(e.now - record.arrived),
        )
        ref = ModelRef(model.name, model.revision, model.license)
        stop = UNSET if e.stop is None else e.stop
        result = UNSET if e.result is None else e.result
        done = Done(e.id, finish, usage, times, ref, [], stop, result, record.resumed)
        return self._end(e.now, record, done)

    def _run_failed(self, e: on.RunFailed) -> list[do.Effect]:
        record = self.requests.records.get(e.id)
        if record is None or record.stage is not Stage.RUNNING:
            return []
        at = UNSET if e.at is None else e.at
        code: Code = e.code  # type: ignore[assignment]  # the worker takes its codes from the same list
        return self._end(e.now, record, failed(e.id, code, e.message, e.hint, e.fault, at=at))

    def _end(self, now: float, record: Record, end: Done | Failed) -> list[do.Effect]:
        """The request is over for the engine; its reader may still have to take text."""
        record.stage = Stage.ENDING
        if isinstance(end, Done):
            self.requests.done_total += 1
        else:
            self.requests.failed_total += 1
        out: list[do.Effect] = [do.CloseStream(record.id, end), do.ClearTimer(("deadline", record.id))]
        if record.detach and record.conn is None:
            out += self._keep(now, record)
        out.append(request_event(record))
        return out

    # ------------------------------------------------------------ models

    def _start(self, now: float, model: Model) -> list[do.Effect]:
        model.restart_at = None
        clear = do.ClearTimer(("restart", model.name))
        return [*self._move(now, model, Cause.WANTED), clear, do.StartWorker(model.name)]

    def _move(self, now: float, model: Model, cause: Cause) -> list[do.Effect]:
        old, new = model.move(now, cause)
        value = {"model": model.name, "state": new.value, "was": old.value, "why": model.why or cause.value}
        level = "error" if new is State.FAILED else "info"
        text = f"model '{model.name}': {old.value} -> {new.value} ({value['why']})"
        return [do.Log(level, text), do.Publish("model", value)]  # type: ignore[arg-type]

    def _load(self, e: on.LoadAsked) -> list[do.Effect]:
        name = self.names.find(e.model)
        if name is None:
            return [refuse(e.caller.conn, e.ref, "no_such_model", *self.names.explain(e.model), at="args.model")]
        if self.draining:
            return [refuse(e.caller.conn, e.ref, "draining", "the daemon is shutting down", "try again later")]
        model = self.models[name]
        out: list[do.Effect] = []
        if model.state in (State.COLD, State.FAILED):
            model.crashes = 0
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
            out += self._end_now(record, end)
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
        return [*out, *self._if_drained()]

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
            *(do.Send(r.conn, self._progress(r, i)) for i, r in enumerate(queued) if r.conn is not None),
            *(do.Send(conn, replace(told, ref=ref)) for name, conn, ref in self._loads if name == model.name),
        ]

    def _ready(self, e: on.WorkerReady) -> list[do.Effect]:
        model = self.models.get(e.model)
        if model is None or model.state is not State.LOADING or model.pid != e.pid:
            return []
        out = self._move(e.now, model, Cause.READY)
        out += self._answer_loads(model.name, model)
        for record in self.requests.at(Stage.QUEUED, model.name):
            out += self._run(e.now, record)
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
            out += self._end(now, record, failed(record.id, code, message, hint, "model"))
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
            out += self._resume_later(e.now, record, model)
        if model.crashes > CRASHES:
            out += self._give_up(e.now, model)
        elif not self.draining or self.requests.at(Stage.QUEUED, e.model):
            model.restart_at = e.now + RESTART_S[min(model.crashes, len(RESTART_S)) - 1]
            out.append(do.SetTimer(("restart", model.name), model.restart_at))
        return [*out, *self._if_drained()]

    def _resume_later(self, now: float, record: Record, model: Model) -> list[do.Effect]:
        """Let a request whose worker died wait for the next one, unless it seems to be what kills them."""
        record.worker = None
        record.resumed += 1
        if record.resumed > RESUMES:
            message = f"the worker of model '{model.name}' died {record.resumed} times under this request: {model.why}"
            return self._end(now, record, failed(record.id, "worker_died", message, "ask differently", "worker"))
        record.stage, record.waited = Stage.QUEUED, True
        out: list[do.Effect] = [request_event(record)]
        if record.conn is not None:
            out.append(do.Send(record.conn, self._progress(record, 0)))
        return out

    def _give_up(self, now: float, model: Model) -> list[do.Effect]:
        model.why = f"its worker died {model.crashes} times in a row; {model.why}"
        out = self._move(now, model, Cause.GAVE_UP)
        return [*out, *self._fail_waiting(now, model)]

    def _missed(self, e: on.RequestsMissed) -> list[do.Effect]:
        """Give the worker again what was lost while its link was down."""
        out: list[do.Effect] = []
        for record in self.requests.at(Stage.RUNNING, e.model):
            if record.worker == str(e.pid) and record.id not in e.held:
                record.resumed += 1
                out += self._run(e.now, record)
        return out

    def _adopted(self, e: on.RequestAdopted) -> list[do.Effect]:
        """Take over a request; its client has as long to come back as it was given, and a little longer."""
        record = e.record
        if record.id in self.requests.records or record.model not in self.models or record.worker is None:
            return []
        self.requests.records[record.id] = record
        record.stage, record.conn = Stage.RUNNING, None
        out: list[do.Effect] = [do.AdoptStream(record, e.offset, e.tokens)]
        if record.deadline_at is not None:
            out.append(do.SetTimer(("deadline", record.id), record.deadline_at))
        if not record.detach:
            record.grace_ms = max(record.grace_ms, ADOPTED_GRACE_MS)
            out.append(do.SetTimer(("grace", record.id), e.now + record.grace_ms / 1000))
        return out

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
        model.state, model.why, model.since = State.FAILED, why, now
        model.worker = model.pid = None
        out: list[do.Effect] = [do.StopWorker(name, worker, pid)]
        for record in self.requests.at(Stage.RUNNING, name) + self.requests.at(Stage.QUEUED, name):
            out += self._end(now, record, failed(record.id, "internal", why, "see the daemon's log", "daemon"))
        return [*out, *self._answer_loads(name, model)]

    # ------------------------------------------------------------ time and the end

    def _timer(self, e: on.TimerFired) -> list[do.Effect]:
        kind, id = e.key
        if kind == "restart":
            model = self.models[id]
            return self._start(e.now, model) if model.state is State.COLD and model.restart_at is not None else []
        record = self.requests.records.get(id)
        if record is None:
            return []
        if kind == "deadline" and record.stage in (Stage.QUEUED, Stage.RUNNING):
            ms = round((e.now - record.arrived) * 1000)
            message = f"the request's deadline passed after {ms} ms, while it was {record.stage.value}"
            end = failed(id, "deadline", message, "give it more time", "client")
            out: list[do.Effect] = []
            if record.stage is Stage.RUNNING and record.worker is not None:
                out.append(do.AbortRequest(record.worker, id))
                record.worker = None
            return [*out, *self._end(e.now, record, end)]
        if kind == "grace" and record.conn is None:
            return [*self._end_now(record, None), *self._if_drained()]
        if kind == "keep" and record.stage is Stage.KEPT:
            if record.conn is not None:  # somebody reads it
                return [do.SetTimer(e.key, e.now + self.limits.keep_s)]
            return [do.CutStream(id), *self._forget(record)]
        return []

    def _drain_expired(self) -> list[do.Effect]:
        out: list[do.Effect] = []
        for record in [r for r in self.requests.records.values() if r.stage is not Stage.KEPT]:
            out += self._end_now(record, failed(record.id, "draining", "the daemon stops", "ask again later", "daemon"))
        return out

    def _if_drained(self) -> list[do.Effect]:
        busy = any(record.stage is not Stage.KEPT for record in self.requests.records.values())
        return [do.Drained()] if self.draining and not busy else []
