"""A request's way from its arrival to its end, past its hooks. Pure.

    arrival -> `request` hooks -> admission on the final model -> `prompt` hooks -> the model, text through `chunk`
    handlers -> `answer` hooks -> the end is told -> observers

A request that meets no hook goes the same way and pays nothing for it.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from ingle.wire.schema import Code, Done, Failed, ModelRef, Timings, Usage
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from ingled.core import chain as chains
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core import pipeline as hooks
from ingled.core import views
from ingled.core.chain import Hop, Outcome
from ingled.core.desk import Desk
from ingled.core.naming import Names
from ingled.core.outcomes import failed, ms, request_event
from ingled.core.pipeline import Pipeline
from ingled.core.registry import Entry
from ingled.core.requests import Record, Stage


class Refusal(NamedTuple):
    """Why a request is not admitted; `retry` in seconds."""

    code: Code
    message: str
    hint: str
    at: str | UnsetType = UNSET
    retry: float | None = None


Admit = Callable[[float, Record, str | None], Refusal | None]
Give = Callable[[float, Record, do.Effect | None], list[do.Effect]]


class Passage:
    """Drives requests past their hooks."""

    def __init__(self, pipeline: Pipeline, desk: Desk, names: Names, admit: Admit, give: Give) -> None:
        """`admit` sets the record's model, or refuses; `give` runs or queues the request."""
        self.pipeline, self.desk = pipeline, desk
        desk.observed = self._failure_observed
        self._find, self._admit, self._give = names.find, admit, give
        self._parked: list[Record] = []
        """Requests that came before it was known which hooks there are."""
        self._ended: list[on.StationsEnded] = []
        """Ends of answers, likewise."""

    # ------------------------------------------------------------ before the model

    def arrives(self, now: float, record: Record, wanted: str | None) -> list[do.Effect] | None:
        """Show an accepted request to its first hooks; None when there are none."""
        if self.pipeline.waiting:
            record.stage = Stage.FILTERING
            self._parked.append(record)
            return [request_event(record)]
        filtered = self._request(now, record, wanted)
        if filtered is None:
            return None
        record.stage = Stage.FILTERING
        effects, outcome = filtered
        return [request_event(record), *effects, *self._decided(now, record, "request", outcome)]

    def enters(self, now: float, record: Record) -> list[do.Effect]:
        """Have a request that has been accepted already begin its way, or go on where a filter has answered it."""
        if record.answer is not None and record.model in self.desk.models and not self.pipeline.waiting:
            return self._answered(now, record, record.answer)
        wanted = record.model or None
        shown = self.arrives(now, record, wanted)
        return self.admitted(now, record, wanted) if shown is None else shown

    def adopted(self, now: float, record: Record) -> list[do.Effect]:
        """Have a request begin its way again that was with its hooks when an earlier daemon ended.

        Plugins are there again. Clients that offer hooks are not, and at such a hook it has failed. What a filter has
        answered is not asked again: its reader may have some of that already.
        """
        if record.answer is not None:
            return self.enters(now, record)
        met, record.met = record.met, {}
        lost = next((one for one in met.values() if one.account is not None and one.refuses), None)
        if lost is not None:
            return self._end(now, record, "hook_failed", "failed", lost.name, "its client went with the daemon")
        return self.enters(now, record)

    def _request(self, now: float, record: Record, wanted: str | None) -> hooks.Step | None:
        """Show a request to the `request` hooks that it has not met yet; None when there are none."""
        before = set(record.met)
        entries = [entry for entry in self.pipeline.meet("request", record) if entry.key not in before]
        if not entries:
            return None
        return self.pipeline.start(now, record, "request", views.request_value(record, wanted), entries)

    def plugins(self, e: on.PluginsOffered) -> list[do.Effect]:
        """It is known which plugins there are: requests that waited for that go on."""
        out = self.pipeline.plugins(e)
        if self.pipeline.waiting:
            return out
        parked, self._parked = self._parked, []
        for record in parked:
            if self.desk.requests.records.get(record.id) is record and record.stage is Stage.FILTERING:
                out += self.enters(e.now, record)
        ended, self._ended = self._ended, []
        for end in ended:
            out += self.stations_ended(replace(end, now=e.now))
        return out

    def admitted(self, now: float, record: Record, wanted: str | None) -> list[do.Effect]:
        """Admit a request that has been accepted already."""
        refusal = self._admit(now, record, wanted)
        if refusal is None:
            return self.prompt(now, record, None)
        retry = UNSET if refusal.retry is None else round(refusal.retry * 1000)
        fault = {"queue_full": "daemon", "load_failed": "model"}.get(refusal.code, "client")
        end = failed(record.id, refusal.code, refusal.message, refusal.hint, fault, at=refusal.at)
        return self.desk.end(now, record, replace(end, retry_after_ms=retry))

    def prompt(self, now: float, record: Record, accepted: do.Effect | None) -> list[do.Effect]:
        """Show the messages of an admitted request to its filters, and give it to its model."""
        entries = self.pipeline.meet("prompt", record)
        if not entries:
            return self._give(now, record, accepted)
        self.desk.requests.move(record, Stage.FILTERING)
        out = [do.KeepWaiting(record), accepted] if accepted else []
        value = {"messages": views.messages(record)}
        effects, outcome = self.pipeline.start(now, record, "prompt", value, entries)
        return [*out, request_event(record), *effects, *self._decided(now, record, "prompt", outcome)]

    def replied(self, e: on.HookReplied) -> list[do.Effect]:
        """Hooks have answered."""
        record = self.desk.requests.records.get(e.id)
        if record is None:
            return []
        effects, outcome = self.pipeline.replied(e, record)
        return [*effects, *self._decided(e.now, record, e.point, outcome)]

    def failed(self, e: on.HookFailed) -> list[do.Effect]:
        """Hooks have not answered."""
        record = self.desk.requests.records.get(e.id)
        if record is None:
            return []
        effects, outcome = self.pipeline.failed(e, record)
        return [*effects, *self._decided(e.now, record, e.point, outcome)]

    def again(self, e: on.HookAgain) -> list[do.Effect]:
        """Call the hooks that are due once more, wherever they are by now."""
        record = self.desk.requests.records.get(e.id)
        if record is None:
            return []
        effects, outcome = self.pipeline.again(e, record)
        return [*effects, *self._decided(e.now, record, e.point, outcome)]

    def _decided(self, now: float, record: Record, point: str, outcome: Outcome | None) -> list[do.Effect]:
        if outcome is None:
            return []
        if outcome.kind == "refused":
            return self._end(now, record, "refused_by_hook", "refused the request", outcome.hook, outcome.reason)
        if outcome.kind == "failed":
            return self._end(now, record, "hook_failed", "failed", outcome.hook, outcome.reason)
        if outcome.kind == "answered" and not record.textual:
            why = "it would answer in the model's place, and with text: vectors were asked for"
            return self._end(now, record, "refused_by_hook", "refused the request", outcome.hook, why)
        if outcome.kind == "answered":
            return self._answered(now, record, outcome.value["text"])
        match point:
            case "request":
                wanted, record.body = views.with_options(record, outcome.value["request"])
                return self._moved(now, record, wanted)
            case "prompt":
                record.body = views.with_messages(record, outcome.value["messages"])
                return self._give(now, record, None)
            case _:
                return self._conclude(now, record, outcome.value["answer"]["text"])

    def _moved(self, now: float, record: Record, wanted: str | None) -> list[do.Effect]:
        """Show a request to the hooks of the model that the others have chosen, until nobody is left out."""
        record.model = self._find(wanted) or wanted or ""
        filtered = self._request(now, record, wanted)
        if filtered is None:
            return self.admitted(now, record, wanted)
        effects, outcome = filtered
        return [*effects, *self._decided(now, record, "request", outcome)]

    def _end(
        self, now: float, record: Record, code: Code, did: Literal["refused the request", "failed"], hook: str, why: str
    ) -> list[do.Effect]:
        out: list[do.Effect] = []
        if record.stage in (Stage.RUNNING, Stage.QUEUED) and record.worker is not None:
            out.append(do.AbortRequest(record.worker, record.id))
            record.worker = None
        hint = "ask differently" if code == "refused_by_hook" else "see `ingle hooks`; its on_error says so"
        text = f"hook '{hook}' {did}: {why or 'it gave no reason'}"
        return [*out, *self.desk.end(now, record, failed(record.id, code, text, hint, f"hook:{hook}"))]

    # ------------------------------------------------------------ the answer

    def watch(self, now: float, record: Record) -> tuple[list[do.Effect], list[do.Effect] | None]:
        """Find who handles the answer: what to do first, and, where a handler is out of order, the request's end."""
        pipeline = self.pipeline
        entries, whole = pipeline.meet("chunk", record), pipeline.meet("answer", record)
        if not entries and not whole and not pipeline.meet("observe", record):
            return [], None
        record.hooked = record.watched = True
        guards = [one for one in whole if one.guards]
        record.guarded = bool(guards)
        # Who looks at whole answers only, sees this one before its reader does.
        record.sealed = record.stream and any("chunk" not in one.offer.points for one in guards)
        chain, outcome = chains.start("chunk", {}, entries, now, False)
        record.ran += chain.ran
        if outcome is not None and outcome.kind == "failed":
            return [], self._end(now, record, "hook_failed", "failed", outcome.hook, outcome.reason)
        record.handlers = [entry for hop in chain.hops for entry in hop.entries]
        return [do.OpenStages(record, chain.hops)], None

    def _answered(self, now: float, record: Record, text: str) -> list[do.Effect]:
        """A filter has given the answer: no model is asked, and handlers see it all the same."""
        record.answer = text
        kept = do.KeepWaiting(record)
        first, end = self.watch(now, record)
        if end is not None:
            return [kept, *end]
        model = self.desk.models[record.model]
        times = Timings(0.0, 0.0, 0.0, ms(now - record.arrived))
        ref = ModelRef(model.name, model.revision, model.license)
        result = UNSET if record.stream else {"text": text}
        done = Done(record.id, "stop", Usage(0, 0, 0), times, ref, [], UNSET, result)
        if record.stream or record.watched:
            first.append(do.FeedText(record.id, text))
        return [kept, *first, *self._over(now, record, done)]

    def run_ended(self, e: on.RunEnded) -> list[do.Effect]:
        """The engine is done with a request."""
        found = self.desk.outcome(e)
        if found is None:
            return []
        record, end = found
        if not isinstance(end, Done):
            return self.desk.end(e.now, record, end)
        if record.stopped is not None:
            record.worker = None  # it was told to end it, and has forgotten it
        if record.watched and record.textual and end.result is not UNSET:
            return [do.FeedText(record.id, end.result["text"]), *self._over(e.now, record, end)]
        return self._over(e.now, record, end)

    def _over(self, now: float, record: Record, done: Done) -> list[do.Effect]:
        if not record.watched:
            return self.desk.end(now, record, done)
        record.end = done
        self.desk.requests.move(record, Stage.FILTERING)
        return [do.FinishStages(record.id), request_event(record)]

    def station_stopped(self, e: on.StationStopped) -> list[do.Effect]:
        """A handler wants no more of an answer: its engine stops too."""
        record = self.desk.requests.records.get(e.id)
        if record is None or record.stage not in (Stage.RUNNING, Stage.FILTERING, Stage.QUEUED):
            return []
        record.stopped = (e.hook, e.why)
        if record.end is not None:
            record.end = replace(record.end, finish="content_filter")
        elif record.stage is Stage.RUNNING and record.worker is not None:
            return [do.AbortRequest(record.worker, record.id)]
        return []  # one that waits, maybe held by its next worker, is ended when that begins

    def station_failed(self, e: on.StationFailed) -> list[do.Effect]:
        """A handler failed that says that the answer fails with it."""
        record = self.desk.requests.records.get(e.id)
        if record is None or record.stage not in (Stage.RUNNING, Stage.FILTERING, Stage.QUEUED):
            return []
        return self._end(e.now, record, "hook_failed", "failed", e.hook, e.why)

    def stations_ended(self, e: on.StationsEnded) -> list[do.Effect]:
        """All text has passed: the hooks that want the whole answer are next."""
        record = self.desk.requests.records.get(e.id)
        if record is None or record.stage is not Stage.FILTERING or record.end is None:
            return []
        if self.pipeline.waiting:
            self._ended.append(e)
            return []
        record.settle()
        entries = self.pipeline.meet("answer", record)
        if not entries:
            return self._conclude(e.now, record, e.text)
        value = views.answer_value(record, record.end, e.text, whole=False)
        effects, outcome = self.pipeline.start(e.now, record, "answer", value, entries)
        return [*effects, *self._decided(e.now, record, "answer", outcome)]

    def _conclude(self, now: float, record: Record, text: str) -> list[do.Effect]:
        """Tell the end, and then the observers."""
        assert record.end is not None, "the engine is done"
        done = record.end
        out: list[do.Effect] = []
        if record.textual and done.result is not UNSET:
            # What no hook has seen does not go out: where one may have changed the text, only that does.
            handled = any(not one.offer.trial for one in record.handlers)
            bare = handled or record.guarded or text != done.result["text"]
            done = replace(done, result={"text": text} if bare else {**done.result, "text": text})
        if record.sealed:
            out.append(do.DeliverText(record.id, text))
        hops = self._observers(now, record)
        value = views.answer_value(record, done, text, whole=True) if hops else {}
        told = [hooks.call(record, "observe", hop, value, reply=False) for hop in hops]
        return [*out, *self.desk.end(now, record, done), *told]

    def _observers(self, now: float, record: Record) -> list[Hop]:
        """Return who is to be told of a request's end, which is the last that is said of its hooks."""
        good: list[Entry] = []
        for entry in self.pipeline.meet("observe", record):
            why = entry.out_of_order(now)
            record.ran.append(chains.told(entry, "observe", "skipped" if why else "told", 0, why))
            good += [] if why else [entry]
        return chains.hops(good)

    def _failure_observed(self, now: float, record: Record, end: Failed) -> list[do.Effect]:
        """Tell observers of a request that fails, while there is what has been made of its answer."""
        record.ran, record.chain = record.told(), None
        hops = self._observers(now, record)
        value = views.failure_value(record, end) if hops else {}
        return [replace(hooks.call(record, "observe", hop, value, reply=False), so_far=True) for hop in hops]
