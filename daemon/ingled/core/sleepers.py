"""Who falls asleep, and when: one model at a time, and none while another is loaded or wakes. Pure."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ingle.bytesize import spell
from ingle.wire.schema import Result

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.ladder import LIGHT, deep_enough
from ingled.core.naming import Unusable
from ingled.core.outcomes import refuse, unusable
from ingled.core.residency import MOVING, Cause, Model, State

if TYPE_CHECKING:
    from ingled.core.residents import Residents
    from ingled.core.workers import Workers


class Sleepers:
    """The models that sleep, and those that are to."""

    def __init__(self, workers: "Workers", residents: "Residents") -> None:
        """`workers` carry it out; `residents` know what memory there is."""
        self._workers, self._residents = workers, residents
        self.models = workers.models
        self.due: dict[str, tuple[int, str]] = {}
        """Models that are to fall asleep when nothing else moves: at which level, and why."""
        self._calls: list[tuple[str, int, int]] = []
        """Calls of `sleep` that wait: model, connection, ref."""

    def asked(self, e: on.SleepAsked) -> list[do.Effect]:
        """Put a model to sleep that somebody wants to, and answer when it sleeps."""
        conn, ref = e.caller.conn, e.ref
        name = self._workers.names.usable(e.model, e.caller.account, e.caller.rights)
        if isinstance(name, Unusable):
            return [unusable(conn, ref, name)]
        model, out_of_the_way = self.models[name], f"`ingle unload {name}` gives all of its memory back"
        if model.adapts is not None:
            text = f"model '{name}' is an adapter: it has no memory of its own to give back"
            return [refuse(conn, ref, "unsupported", text, f"`ingle unload {name}` removes it from its base")]
        if not model.sleep.can and model.state is State.READY:
            text = f"model '{name}' cannot sleep: {model.sleep.why_not}"
            return [refuse(conn, ref, "unsupported", text, out_of_the_way)]
        if model.state in (State.DOZING, State.SLEEPING) and e.level in (None, model.level):
            self._calls.append((name, conn, ref))
            return []
        if model.state is State.SLEEPING:
            text = f"model '{name}' sleeps at level {model.level}, and vLLM changes no level in sleep"
            return [refuse(conn, ref, "conflict", text, f"`ingle wake {name}` first; {out_of_the_way}")]
        if model.state is not State.READY:
            text = f"model '{name}' is {model.state.value}: only a model that is ready can fall asleep"
            return [refuse(conn, ref, "conflict", text, "see `ingle ps`")]
        if busy := len(self._workers.requests_of(name)):
            text = f"model '{name}' has {busy} request{'s' * (busy > 1)}"
            return [refuse(conn, ref, "conflict", text, "wait for them, or see `ingle requests` and `ingle cancel`")]
        host = self._residents.host
        level = e.level or deep_enough(model.sleep, host)
        if level == LIGHT and host is not None and model.sleep.weights > host:
            text = f"at level 1 the weights of '{name}' take {spell(model.sleep.weights)} of the machine's memory"
            return [refuse(conn, ref, "does_not_fit", f"{text}, which has {spell(host)}", "level 2 takes none")]
        self.due[name] = (level, "was told to sleep")
        self._calls.append((name, conn, ref))
        return []

    def connection_gone(self, conn: int) -> None:
        """Forget its calls; what they wanted is done all the same."""
        self._calls = [call for call in self._calls if call[1] != conn]

    def next(self, now: float) -> list[do.Effect]:
        """Let the next one fall asleep, if nothing else moves; answer the calls for those that sleep or will not."""
        out: list[do.Effect] = []
        if self.due and not any(model.state in MOVING for model in self.models.values()):
            while self.due and not out:
                name, (level, why) = next(iter(self.due.items()))
                del self.due[name]
                model = self.models.get(name)
                if model is None or self._residents.busy(name) or self._workers.waited_for(name):
                    continue
                if model.state is State.READY:
                    out = self.begin(now, model, level, why)
        return [*out, *self._answer()] if self._calls else out

    def begin(self, now: float, model: Model, level: int, why: str) -> list[do.Effect]:
        """Let an idle model fall asleep."""
        name = model.name
        assert model.worker is not None, "a ready model has a worker"
        host = self._residents.host
        if level == LIGHT and host is not None:
            self._residents.host = max(0, host - model.sleep.weights)
        model.level = level
        model.story.add(now, f"{why}: level {level}")
        log = do.Log("info", f"model '{name}': {why}, and falls asleep at level {level}", name)
        return [log, *self._workers.move(now, model, Cause.TO_SLEEP), do.SleepWorker(name, model.worker, level)]

    def asleep(self, e: on.WorkerAsleep) -> list[do.Effect]:
        """A model has fallen asleep, and what it has given back was seen; or one that sleeps is adopted."""
        model = self.models.get(e.model)
        if model is None or model.pid != e.pid:
            return []
        if model.state is State.WAKING:  # the order to wake was lost with a link
            return [do.WakeWorker(model.name, model.worker or "")]
        if model.state not in (State.DOZING, State.LOADING):
            return []
        model.level, model.sleep = e.level, replace(model.sleep, left=e.left)
        again, model.wanted_again = model.wanted_again, False
        out = self._workers.move(e.now, model, Cause.ASLEEP)
        if model.ttl is not None:
            out.append(do.SetTimer(("ttl", model.name), e.now + max(0.0, model.ttl - model.idle(e.now))))
        self._residents.want(e.now, model, hint=again)
        family = self._workers.adapters.family(model.name)
        return [*out, *(kept for name in family for kept in self._workers.desk.places.let_go(name))]

    def failed(self, e: on.SleepFailed) -> list[do.Effect]:
        """A model cannot sleep: it gave nothing back, or woke up another one. It is started anew if it is wanted."""
        model = self.models.get(e.model)
        if model is None or model.pid != e.pid or model.state not in MOVING:
            return []
        text = f"model '{model.name}' did not outlive that the machine was suspended: {e.why}"
        if not model.suspended:
            model.sleep = replace(model.sleep, why_not=e.why)
            text = f"model '{model.name}' cannot sleep, and will not be put to sleep again: {e.why}"
        model.wanted_again = model.wanted_again or model.state is not State.DOZING
        out: list[do.Effect] = [do.Log("error", text, model.name)]
        stop = do.StopWorker(model.name, model.worker, model.pid)
        return [*out, *self._workers.move(e.now, model, Cause.SLEEP_FAILED), stop]

    def _answer(self) -> list[do.Effect]:
        """Answer the calls for models that neither fall asleep nor are to."""
        dozing = {name for name, model in self._residents.there.items() if model.state is State.DOZING}
        over = [call for call in self._calls if call[0] not in dozing | self.due.keys()]
        self._calls = [call for call in self._calls if call not in over]
        return [self._outcome(*call) for call in over]

    def _outcome(self, name: str, conn: int, ref: int) -> do.Send:
        model = self.models.get(name)
        if model is None:
            return refuse(conn, ref, "conflict", f"model '{name}' is not configured any more", "see `ingle models`")
        if model.state is State.SLEEPING:
            return do.Send(conn, Result(ref, {"model": model.name, "state": "sleeping", "level": model.level}))
        text = f"model '{model.name}' was not put to sleep: it is {model.state.value}"
        if not model.sleep.can:
            text = f"model '{model.name}' cannot sleep: {model.sleep.why_not}"
            return refuse(conn, ref, "engine_error", text, "it has been stopped, and is loaded again when it is asked")
        return refuse(conn, ref, "conflict", text, "see `ingle ps`; somebody may have asked it")
