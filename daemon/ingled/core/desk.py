"""The life of a request from its acceptance to its end, whatever becomes of readers and workers.

`Control` owns the models and decides when a request may run, `Places` gives it to a worker; here it is kept, ended and
forgotten.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ingle.wire.limits import OPEN_REQUESTS
from ingle.wire.schema import Code, Done, Failed, Finish, ModelRef, Progress, Result, Timings, Usage
from msgspec import UNSET, Raw
from msgspec.structs import replace

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Rights
from ingled.core.adapters import base_of, shown
from ingled.core.chain import hops
from ingled.core.outcomes import failed, ms, no_such_request, request_event, told
from ingled.core.places import Places
from ingled.core.quota import Quotas
from ingled.core.requests import Record, Requests, Stage
from ingled.core.residency import Model

RESUMES = 3
"""How often a request goes on after the death of its worker, before it is held to be the cause."""

AT_ONCE = 8
"""Requests of a connection that has gone which are ended in one turn of the loop: in a quarter of a millisecond."""

ADOPTED_GRACE_MS = 30_000
"""Shortest time for a client to come back after the daemon itself was replaced."""

DRAINING_GRACE_MS = 3_000
"""Longest time for it when the daemon stops and the answer has ended: its client may have all of it, and not come."""

ADOPTED_TEXT_S = 1.0
"""A deadline that has passed waits so long for the text that was made before it: the worker sends it next."""

RECORD_BYTES = 2048
"""What a kept request takes beside its text."""

ALIVE = (Stage.FILTERING, Stage.QUEUED, Stage.RUNNING)
"""Stages of requests that have not ended."""

End = TypeVar("End", bound=Done | Failed)

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


class Desk:
    """All accepted requests."""

    def __init__(
        self,
        models: Mapping[str, Model],
        limits: Limits,
        held: Callable[[str], int],
        made: Callable[[str], int],
        blot: Callable[[str, Rights], str],
    ) -> None:
        """`models` are read only; `held` tells the bytes held of an answer, `made` the tokens it has; `blot` takes out
        of a text what an account may not see (`Names`).
        """
        self.requests = Requests(made)
        self.places = Places(models, self.requests)
        self.quotas = Quotas()
        self.limits = limits
        self.models = models
        self._held, self._made, self._blot = held, made, blot
        self.draining = False
        """Nothing new is taken, and what has ended waits no longer for its reader than it must."""
        self.observed: Callable[[float, Record, Failed], list[do.Effect]] = lambda now, record, end: []
        """Tells observers of a request that fails."""

    @property
    def busy(self) -> bool:
        """Some request is not over."""
        return len(self.requests.records) > self.requests.stages[Stage.KEPT]

    def progress(self, now: float, record: Record, position: int) -> Progress:
        """Return what a queued request waits for; `position` requests wait before it."""
        news = told(shown(self.models, self.models[record.model]), now)
        what = news.what if news.what is UNSET else self._blot(news.what, record.rights)
        return replace(news, id=record.id, position=position, what=what)

    def cancel(self, e: on.CancelAsked) -> list[do.Effect]:
        """End a request for somebody who may see it."""
        record = self.requests.records.get(e.id)
        if record is None or not e.caller.sees(record.account):
            return [no_such_request(e.caller.conn, e.ref, e.id)]
        state = record.stage.value
        out = self.end_now(e.now, record, failed(record.id, "cancelled", "the request was cancelled", "", "client"))
        value = {"cancelled": record.stage is not Stage.KEPT, "state": state}
        return [*out, do.Send(e.caller.conn, Result(e.ref, value))]

    def end_now(self, now: float, record: Record, end: Failed | None) -> list[do.Effect]:
        """End a request wherever it is; text that was not taken is dropped."""
        self._pay(now, record, record.end.usage if record.end else None)
        out: list[do.Effect] = []
        if record.stage in ALIVE:
            left = failed(record.id, "cancelled", "its client has gone", "", "client")
            out += self.observed(now, record, end or left)
        if record.stage in ALIVE and record.worker is not None:
            out.append(do.AbortRequest(record.worker, record.id))
            record.worker = None
        out.append(do.CutStream(record.id, None if end is None else _with_hooks(record, end)))
        return [*out, *self.forget(record, failed=True)]

    def forget(self, record: Record, *, failed: bool = False) -> list[do.Effect]:
        """Drop a record, its timers, and what its worker holds for it."""
        self.requests.remove(record)
        if record.stage is not Stage.KEPT:
            self.requests.over(record)
        alive = record.stage in ALIVE
        self.requests.failed_total += failed and alive
        state = "cancelled" if failed and alive else "over"
        out: list[do.Effect] = [do.ClearTimer((kind, record.id)) for kind in ("deadline", "grace", "keep")]
        if record.hooked and alive:
            out.append(do.ForgetHooks(record.id))
        if record.worker is not None:
            out.append(do.ReleaseRequest(record.worker, record.id))
        return [*out, request_event(record, state)]

    def attach(self, e: on.AttachAsked) -> list[do.Effect]:
        """Give the stream of a request to another connection; the one that had it is told."""
        record = self.requests.records.get(e.id)
        if record is None or not e.caller.sees(record.account):
            return [no_such_request(e.caller.conn, e.ref, e.id)]
        out: list[do.Effect] = []
        if record.conn is not None and record.conn != e.caller.conn:
            taken = failed(record.id, "conflict", "another connection reads this request now", "attach again", "client")
            out.append(do.Send(record.conn, taken))
        self.requests.give(record, e.caller.conn)
        if record.account == e.caller.account:
            record.rights = e.caller.rights  # a record that was taken over knows them not
        out.append(do.ClearTimer(("grace", e.id)))
        out.append(do.AttachStream(e.id, e.caller.conn, e.ref, e.offset, e.credit))
        return out

    def connection_gone(self, e: on.ConnectionGone) -> list[do.Effect]:
        """End what the connection ran, but for what was detached or has grace; of very much, a part at a time."""
        mine = self.requests.read_by(e.conn)
        out: list[do.Effect] = [do.Continue(e)] if len(mine) > AT_ONCE else []
        for record in list(islice(mine, AT_ONCE)):
            if record.detach or (record.grace_ms and not e.left):
                self.requests.give(record, None)
                out.append(do.DetachStream(record.id))
                if not record.detach:
                    out.append(self._await_reader(e.now, record))
                elif record.stage is Stage.ENDING:
                    out += self.keep(e.now, record)
            else:
                out += self.end_now(e.now, record, None)
        return out

    def delivered(self, e: on.Delivered) -> list[do.Effect]:
        """Its reader has all of it: forget the request, or keep it for others."""
        record = self.requests.records.get(e.id)
        if record is None:
            return []
        if record.detach:
            self.requests.give(record, None)  # it has all of it
            return [do.DetachStream(record.id), *self.keep(e.now, record)]
        return [do.CutStream(record.id), *self.forget(record)]

    def keep(self, now: float, record: Record) -> list[do.Effect]:
        """Hold the answer of a detached request; the oldest that nobody reads go when there is too much."""
        if record.stage is Stage.KEPT:
            return []
        requests = self.requests
        requests.keep(record, self._held(record.id) + RECORD_BYTES)
        out: list[do.Effect] = [do.SetTimer(("keep", record.id), now + self.limits.keep_s)]
        if requests.kept_bytes <= self.limits.keep_bytes:
            return out
        for id in list(requests.kept):
            if requests.kept_bytes <= self.limits.keep_bytes:
                break
            oldest = requests.records[id]
            if oldest is not record and oldest.conn is None:
                out += [do.CutStream(id), *self.forget(oldest)]
        return out

    def outcome(self, e: on.RunEnded) -> tuple[Record, Done | Failed] | None:
        """Return the request that the engine is done with, and how it ended."""
        record = self.requests.records.get(e.id)
        if record is None or (record.stage is not Stage.RUNNING and not self._was_taken_back(record, e.finish)):
            return None
        finish = "content_filter" if record.stopped is not None else FINISHES.get(e.finish)
        usage = Usage(e.prompt, e.cached, e.completion)
        self._pay(e.now, record, usage)
        if finish is None:
            message = f"the engine ended the request with '{e.finish}'"
            return record, failed(e.id, "engine_error", message, "try again", "worker", usage=usage)
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
        result = {"vectors": Raw(e.vectors)} if e.vectors else UNSET if e.result is None else e.result
        return record, Done(e.id, finish, usage, times, ref, [], stop, result, record.resumed)

    def freed(self, e: on.PlaceFreed) -> list[do.Effect]:
        """The engine has made all of an answer, taken by its reader or not: somebody else may have its place."""
        record = self.requests.records.get(e.id)
        if record is not None and record.stage is Stage.RUNNING:
            self._pay(e.now, record, Usage(e.prompt, 0, e.completion))
            self.requests.turns[record.model].free(record)
        return []

    def run_failed(self, e: on.RunFailed) -> list[do.Effect]:
        """The engine refused a request or failed at it."""
        record = self.requests.records.get(e.id)
        if record is None or record.worker is None or record.stage not in (Stage.RUNNING, Stage.QUEUED):
            return []
        at = UNSET if e.at is None else e.at
        code: Code = e.code  # type: ignore[assignment]  # the worker takes its codes from the same list
        return self.end(e.now, record, failed(e.id, code, e.message, e.hint, e.fault, at=at))

    def end(self, now: float, record: Record, end: Done | Failed) -> list[do.Effect]:
        """The request is over for the engine; its reader may still have to take text."""
        usage = end.usage
        self._pay(now, record, None if usage is UNSET else usage)
        told = self.observed(now, record, end) if isinstance(end, Failed) else []
        end = _with_hooks(record, end)
        self.requests.move(record, Stage.ENDING)
        record.chain = None
        if isinstance(end, Done):
            self.requests.done_total += 1
        else:
            self.requests.failed_total += 1
        out: list[do.Effect] = [*told, do.CloseStream(record.id, end), do.ClearTimer(("deadline", record.id))]
        if record.hooked:
            out.append(do.ForgetHooks(record.id))
        if record.conn is None:
            if record.detach:
                out += self.keep(now, record)
            elif self.draining:
                out.append(self._await_reader(now, record))
        out.append(request_event(record))
        return out

    def resume_later(self, now: float, record: Record, model: Model) -> list[do.Effect]:
        """Let a request whose worker died wait for the next one, unless it seems to be what kills them."""
        record.worker = None
        record.resumed += 1
        if record.resumed > RESUMES:
            message = f"the worker of model '{model.name}' died {record.resumed} times under this request: {model.why}"
            return self.end(now, record, failed(record.id, "worker_died", message, "ask differently", "worker"))
        record.waited = True
        self.requests.move(record, Stage.QUEUED)
        out: list[do.Effect] = [do.KeepWaiting(record), request_event(record)]
        if record.conn is not None:
            out.append(do.Send(record.conn, self.progress(now, record, 0)))
        return out

    @staticmethod
    def _was_taken_back(record: Record, finish: str) -> bool:
        """Return whether the engine was done with a request before it heard that it is taken back."""
        return record.stage is Stage.QUEUED and record.worker is None and bool(record.run_at) and finish in FINISHES

    def adopted(self, e: on.RequestAdopted) -> list[do.Effect]:
        """Take over a request; its client has as long to come back as it was given, and a little longer."""
        record = e.record
        stage = record.stage
        if record.id in self.requests.records or (record.model not in self.models and stage is not Stage.FILTERING):
            return []
        record.stage, record.conn = Stage.FILTERING, None
        self.requests.add(record)
        if stage is not Stage.FILTERING:
            self.requests.move(record, stage)
        record.run_at = record.run_at or (e.now if stage is Stage.RUNNING else 0.0)
        out: list[do.Effect] = [do.AdoptStream(record, e.offset, e.tokens)]
        if record.watched:
            out.append(do.OpenStages(record, hops(record.handlers)))
        if e.text:
            out.append(do.ReplayText(record.id, e.text))
        if record.deadline_at is not None:
            at = max(record.deadline_at, e.now + ADOPTED_TEXT_S)
            out.append(do.SetTimer(("deadline", record.id), at))
        if not record.detach:
            record.grace_ms = max(record.grace_ms, ADOPTED_GRACE_MS)
            out.append(self._await_reader(e.now, record))
        return out

    def _await_reader(self, now: float, record: Record) -> do.Effect:
        """Let a reader that is away come back."""
        short = self.draining and record.stage is Stage.ENDING
        ms = min(record.grace_ms, DRAINING_GRACE_MS) if short else record.grace_ms
        return do.SetTimer(("grace", record.id), now + ms / 1000)

    def _pay(self, now: float, record: Record, usage: Usage | None) -> None:
        """Take a request's tokens off what its account has; of one that was broken off, what is known of them."""
        if record.paid or not record.run_at:
            return
        record.paid = True
        model = self.models[record.model]
        model.used_at = base_of(self.models, model).used_at = now
        if usage is not None:
            prompt, answer = usage.prompt, usage.completion
        else:
            prompt, answer = record.prompt_guess, self._made(record.id)
        self.quotas.pay(now, record.account, prompt + answer)
        self.requests.turns[record.model].counters.pay(record.account, prompt, answer)

    def drain(self, now: float) -> list[do.Effect]:
        """The daemon stops once all has ended and been read."""
        self.draining = True
        away = [one for one in self.requests.records.values() if one.stage is Stage.ENDING and one.conn is None]
        return [self._await_reader(now, one) for one in away]

    def drain_expired(self, now: float) -> list[do.Effect]:
        """End all that is not over."""
        out: list[do.Effect] = []
        for record in [r for r in self.requests.records.values() if r.stage is not Stage.KEPT]:
            out += self.end_now(
                now, record, failed(record.id, "draining", "the daemon stops", "ask again later", "daemon")
            )
        return out

    def timer(self, e: on.TimerFired) -> list[do.Effect]:
        """A deadline, a time of grace or of keeping has run out."""
        kind, id = e.key
        record = self.requests.records.get(id)
        if record is None:
            return []
        if kind == "deadline" and record.stage in ALIVE:
            ms = round((e.now - record.arrived) * 1000)
            message = f"the request's deadline passed after {ms} ms, while it was {record.stage.value}"
            end = failed(id, "deadline", message, "give it more time", "client")
            out: list[do.Effect] = []
            if record.worker is not None:
                out.append(do.AbortRequest(record.worker, id))
                record.worker = None
            return [*out, *self.end(e.now, record, end)]
        if kind == "grace" and record.conn is None:
            return self.end_now(e.now, record, None)
        if kind == "keep" and record.stage is Stage.KEPT:
            if record.conn is not None:  # somebody reads it
                return [do.SetTimer(e.key, e.now + self.limits.keep_s)]
            return [do.CutStream(id), *self.forget(record)]
        return []


def _with_hooks(record: Record, end: End) -> End:
    """Return the end of a request with what its hooks did."""
    hooks = record.told()
    return replace(end, hooks=hooks) if hooks else end
