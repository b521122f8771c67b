"""Who is there, who wants to be, and who goes for whom: the policy is asked, and what it says is done. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from ingle.wire.schema import Phase, Result

from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.adapters import base_of
from ingled.core.eviction import CheapestBack, cost
from ingled.core.ladder import level_for, who_may_sleep
from ingled.core.lenders import Lenders
from ingled.core.naming import Unusable
from ingled.core.outcomes import refuse, unusable
from ingled.core.placement import Absent, Decision, Device, Evict, Fits, Never, Outlook, Policy, Resident, Wait
from ingled.core.residency import AWAY, GONE, MOVING, PRESENT, Cause, Model, State
from ingled.core.sleepers import Sleepers
from ingled.core.suspension import Suspension
from ingled.core.topology import Placed, one_share, place, share
from ingled.core.uses import Uses

if TYPE_CHECKING:
    from ingled.core.workers import Workers

MEMORY_WAIT_S = 60.0
"""Seconds that a model waits for memory that others than models hold, before it is refused."""
PATIENCE_S = 30.0
"""Seconds that a model waits for busy ones before nothing more is given to them."""

AGAIN_S = 0.01
"""Sooner a policy is not asked again: of a time that is over by rounding only, nothing would be left each time."""

TIMERS = ("place", "ttl", "back", "suspend")
"""Kinds of timers that are for here."""

IN_WORDS = {State.LOADING: "is being loaded", State.DOZING: "falls asleep", State.WAKING: "wakes up"}


class Residents:
    """The models that take memory on a device, and those that are wanted there."""

    def __init__(
        self,
        workers: "Workers",
        devices: Sequence[Device],
        policy: Policy | None = None,
        patience_s: float = PATIENCE_S,
        memory_wait_s: float = MEMORY_WAIT_S,
    ) -> None:
        """`workers` start and stop, and know who waits."""
        self._workers = workers
        self.models, self.requests = workers.models, workers.requests
        self.devices, self.policy = list(devices), policy or CheapestBack()
        self.patience_s, self.memory_wait_s = patience_s, memory_wait_s
        self.uses = Uses()
        self.there: dict[str, Model] = {}
        """Models that take memory, adapters not among them: their base takes theirs."""
        self._closed: dict[str, None] = {}
        """Models of which it was said that they take no more requests."""
        self.wanted: dict[str, float] = {}
        """Models that are to be loaded, and since when; the first has waited longest."""
        self._elsewhere: dict[str, float] = {}
        """Those of them that wait for memory of others than models, and since when."""
        self.hints: set[str] = set()
        """Those of them that are wanted though no request waits."""
        self.host: int | None = None
        """Bytes of the machine's memory that weights of sleeping models may take; None: not known."""
        self.sleepers = Sleepers(workers, self)
        self.lenders = Lenders(self)
        self.suspension = Suspension(workers, self)

    def busy(self, name: str) -> bool:
        """Return whether a model runs requests."""
        return self._workers.adapters.busy(name)

    def seen(self, now: float, model: Model) -> Resident:
        """Return a model that is there as the policy sees it."""
        state, terms = model.state, model.terms
        if model.asleep:  # what would be lost is that it wakes faster than it loads
            saved = max(0.01, terms.reload_s - model.sleep.back_s(model.level))
            terms = replace(terms, need=model.sleep.left, reload_s=saved, min_resident=0.0)
        elif state is State.READY and (level := self.level_of(now, model)):
            terms = replace(terms, reload_s=model.sleep.back_s(level))
        return Resident(
            model.name,
            terms,
            model.on,
            busy=state in MOVING or self.busy(model.name),
            leaving=state is State.STOPPING,
            moving=IN_WORDS.get(state, ""),
            asleep=model.asleep,
            pinned=model.pinned,
            idle=model.idle(now),
            popularity=self.uses.popularity(model.name),
            age=now - model.ready_at if model.ready_at is not None else 0.0,
        )

    def level_of(self, now: float, model: Model) -> int:
        """Return the level to which a model goes that gives its memory back, or 0: it goes out."""
        if model.state is not State.READY:
            return 0
        return level_for(model.sleep, self.uses.expected_s(now, model.name), self.host)

    def present(self, now: float) -> list[Resident]:
        """Return all models that take memory."""
        return [self.seen(now, model) for model in self.there.values()]

    def moved(self, model: Model) -> None:
        """Take note that a model is in another state: what each request looks at is not all models."""
        if (model.adapts is None and model.state in PRESENT) != (model.name in self.there):
            own = (one for one in self.models.values() if one.adapts is None)
            self.there = {one.name: one for one in own if one.state in PRESENT}

    def used(self, now: float, model: Model) -> None:
        """A model is asked, or will be: an adapter is, and with it its base, which has the memory of both."""
        base = base_of(self.models, model)
        model.used_at = base.used_at = now
        self.uses.add(now, base.name)

    def _absent(self, model: Model) -> list[Absent]:
        """Return the models beside this one that are not there, and may be asked: those that have been."""
        some = (self.models.get(name) for name in self.uses.known)
        away = [one for one in some if one is not None and one.state in GONE and one.adapts is None]
        return [Absent(one_share(one.terms), self.uses.popularity(one.name)) for one in away if one is not model]

    def outlook(self, model: Model, waited: float = inf) -> Outlook:
        """Return what the policy may look at, of a model for which somebody has waited for so long."""
        return Outlook(waited, self.uses.popularity(model.name), lambda: self._absent(model))

    def decide(self, now: float, model: Model, waited: float = inf) -> Placed:
        """Say what has to happen for a model to be loaded for which somebody has waited so long, and where."""
        return self._decide(model, self.present(now), waited)

    def _decide(self, model: Model, residents: Iterable[Resident], waited: float) -> Placed:
        """Say so beside these, of which some may have been promised room only."""
        if model.adapts is not None:
            base = base_of(self.models, model)
            return Placed(Fits(), base.on) if base.state is State.READY else self._decide(base, residents, waited)
        others = [one for one in residents if one.name != model.name]
        only = model.on if model.state is State.SLEEPING else None  # it wakes where it sleeps
        return place(self.policy, model.name, model.terms, others, self.devices, only, self.outlook(model, waited))

    def idle(self, now: float, state: State = State.READY) -> list[Model]:
        """Return the models that could give memory back, those first of which it costs least, byte for byte."""
        found = [one for one in self.there.values() if one.state is state and not one.pinned]
        seen = {one.name: self.seen(now, one) for one in found if not self.busy(one.name)}
        names = sorted(seen, key=lambda name: cost(seen[name]) / max(1, seen[name].terms.need))
        return [self.models[name] for name in names if name not in self.sleepers.due]

    def forget(self, name: str) -> None:
        """It is no longer wanted, and waits for nothing."""
        self.wanted.pop(name, None)
        if (model := self.models.get(name)) is not None:
            model.waits = None
        self._elsewhere.pop(name, None)
        self.hints.discard(name)

    def want(self, now: float, model: Model, *, hint: bool = False) -> None:
        """A model is to be loaded, as soon as there is room (`place`); `hint`: though no request waits for it."""
        if model.adapts is not None:
            self._workers.adapters.want(model, hint=hint)
            return
        self.wanted.setdefault(model.name, now)
        if hint:
            self.hints.add(model.name)

    def place(self, now: float) -> list[do.Effect]:
        """Load what is wanted and fits, put out what has to go for it, and tell those who wait why they do."""
        if self.suspension.holds:
            return [*self.suspension.next(now), *self.sleepers.next(now), *self.suspension.tell(now)]
        out = [*self._workers.adapters.place(now), *self.suspension.next(now), *self.sleepers.next(now)]
        if not self.wanted:
            return [*out, *self._close(now, set())]
        there = self.present(now)
        promised: list[Resident] = []
        closed: set[str] = set()
        ask_again: list[float] = []
        for name, since in list(self.wanted.items()):
            model = self.models[name]
            if model.state not in AWAY or not self._wanted(name):
                self.forget(name)
                continue
            if model.restart_at is not None:
                continue  # a pause after a death, at the end of which its timer fires
            names = {one.name for one in promised}  # one that sleeps, and is to wake, is there once
            others = [*(one for one in there if one.name not in names), *promised]
            placed = self._decide(model, others, now - since)
            match decision := self._bounded(now, name, placed.decision):
                case Fits():
                    asleep = model.state is State.SLEEPING
                    out += self._workers.wake(now, model) if asleep else self._workers.start(now, model, placed.on)
                    there = self.present(now)
                case Evict():
                    out += self._make_room(now, model, decision.models, placed.on)
                    there = self.present(now)
                    promised.append(self._promised(model, placed.on))
                    out += self._waits(now, model, "evicting", f"{name}: {_all_of(decision.models)} room")
                case Wait():
                    patience = since + self.patience_s
                    late = now >= patience
                    if late:
                        closed.update(decision.blockers, decision.idle)
                    elif decision.blockers:
                        ask_again.append(patience)
                    if decision.until is not None:
                        ask_again.append(now + max(AGAIN_S, decision.until))
                    if not decision.others and (late or not decision.blockers):  # else others may pass it by
                        promised.append(self._promised(model, placed.on))
                    out += self._waits(now, model, "queued", f"{name}: {decision.why}")
                case Never():
                    self.forget(name)
                    out += self._workers.refuse_waiting(now, model, decision)
        if ask_again:
            out.append(do.SetTimer(("place", ""), min(ask_again)))
        return [*out, *self._close(now, closed)]

    def _promised(self, model: Model, on: tuple[int, ...]) -> Resident:
        """Return a model as those see it that are decided after it: as if it were there already."""
        return Resident(model.name, model.terms, on, busy=True, popularity=self.uses.popularity(model.name))

    def _bounded(self, now: float, name: str, decision: Decision) -> Decision:
        """Return a decision, or that it is refused: it has waited long enough for what others hold."""
        if not isinstance(decision, Wait) or not decision.others:
            self._elsewhere.pop(name, None)
            return decision
        left = self._elsewhere.setdefault(name, now) + self.memory_wait_s - now
        if left > 0:
            return replace(decision, until=left if decision.until is None else min(left, decision.until))
        why = f"model '{name}' has waited for {self.memory_wait_s:g} s: {decision.why}"
        return Never(why, "end what takes it, or ask again when it has ended")

    def _wanted(self, name: str) -> bool:
        """Return whether a model is to be loaded still."""
        return (name in self.hints and not self._workers.draining) or self._workers.waited_for(name)

    def _close(self, now: float, names: set[str]) -> list[do.Effect]:
        """Give nothing more to these models, and again to those for whose memory nobody waits any longer."""
        out: list[do.Effect] = []
        if not names and not self._closed:
            return out
        those = (name for name in self.there if name in names)
        closed = dict.fromkeys(one for name in those for one in self._workers.adapters.family(name))
        before, self._closed = self._closed, closed
        for name in before:
            model = self.models.get(name)
            if name not in closed and model is not None and model.closed:
                model.closed = False
                out += self._workers.desk.places.opened(now, model) if model.state is State.READY else []
        for name in closed:
            if not self.models[name].closed:
                self.models[name].closed = True
                out.append(do.Log("info", f"model '{name}': takes no more requests, others wait for its memory"))
        return out

    def _waits(self, now: float, model: Model, phase: Phase, why: str) -> list[do.Effect]:
        """Tell those who wait for a model why, if that is news."""
        if model.waits == (phase, why):
            return []
        model.waits = (phase, why)
        return self._workers.tell(now, model)

    def _make_room(self, now: float, model: Model, victims: Iterable[str], on: tuple[int, ...]) -> list[do.Effect]:
        """Let these give their memory back for a model: asleep, if it has room beside what they keep then."""
        there = [one for one in self.present(now) if one.name != model.name and not one.leaving]
        shares = {one.name: share(one.terms.need, len(one.on)) * len(set(one.on) & set(on)) for one in there}
        taken = model.terms.need + sum(taken for name, taken in shares.items() if name not in victims)
        levels = {name: level for name in victims if (level := self.level_of(now, self.models[name]))}
        left = {name: self.models[name].sleep.left for name in levels}
        budgets = [self.devices[index].budget for index in on]
        whole = None if None in budgets else sum(one or 0 for one in budgets)
        sleepers = set(left) if whole is None else who_may_sleep(left, whole - taken)
        why = f"makes room for '{model.name}'"
        out: list[do.Effect] = []
        for name in victims:
            if name not in sleepers:
                out += self.put_out(now, self.models[name], why)
        for name in victims:  # one at a time: the others when this one sleeps, and what is needed is decided anew
            if name in sleepers:
                asleep = self.sleepers.begin(now, self.models[name], levels[name], why)
                return [*out, *asleep, *self._back_later(now, self.models[name])]
        return out

    def put_out(self, now: float, model: Model, why: str) -> list[do.Effect]:
        """Stop the worker of an idle model."""
        model.story.add(now, why)
        told = do.Log("info", f"model '{model.name}': {why}", model.name)
        stop = do.StopWorker(model.name, model.worker, model.pid)
        return [told, *self._workers.move(now, model, Cause.EVICTED), stop, *self._back_later(now, model)]

    def _back_later(self, now: float, model: Model) -> list[do.Effect]:
        """Look in a while whether a model that has gone for others may come back."""
        if model.comes_back is None:
            return []
        return [do.SetTimer(("back", model.name), now + model.comes_back)]

    def timer(self, e: on.TimerFired) -> list[do.Effect]:
        """A model was idle for long, or may come back; for `place` there is nothing to do but look for room."""
        kind, name = e.key
        if kind in ("place", "suspend"):
            return []  # as after each event
        model = self.models.get(name)
        if model is None:
            return []
        if kind == "ttl" and model.state in (State.READY, State.SLEEPING) and model.ttl is not None:
            left = model.ttl - model.idle(e.now)
            if self.busy(name) or model.pinned or left > 0:
                return [do.SetTimer(e.key, e.now + (left if left > 0 else model.ttl))]
            return self.put_out(e.now, model, f"was idle for {model.ttl:.0f} s")
        if kind == "back" and model.state in (State.COLD, State.SLEEPING) and model.comes_back is not None:
            return self._back(e.now, model, model.comes_back)
        return []

    def _back(self, now: float, model: Model, pause: float) -> list[do.Effect]:
        """Load a model again that was put out, if those that took its place have been idle for so long."""
        if model.name in self.wanted or model.leaving:
            return []
        decision = self.decide(now, model).decision
        victims = decision.models if isinstance(decision, Evict) else ()
        idle = [self.models[victim].idle(now) for victim in victims]
        if isinstance(decision, Fits) or (idle and min(idle) >= pause):
            self.want(now, model, hint=True)
            return []
        return [do.SetTimer(("back", model.name), now + max(1.0, pause - min(idle, default=0.0)))]

    def seen_device(self, e: on.DeviceSeen) -> list[do.Effect]:
        """Take note of a device; a model that was spread before there were several has the first of them."""
        self.devices[e.index :] = [e.device, *self.devices[e.index + 1 :]]
        for model in self.models.values():
            if model.state in PRESENT and len(model.on) < model.terms.devices <= len(self.devices):
                model.on = tuple(range(model.terms.devices))
        return []

    def need(self, e: on.NeedSeen) -> list[do.Effect]:
        """Take note of what a model takes; how long it loads is its own to tell, once it has been loaded here."""
        model = self.models.get(e.model)
        if model is None:
            return []
        load_s = model.terms.reload_s if model.loads or e.load_s is None else max(0.001, e.load_s)
        if e.load_s is not None:
            model.loads = max(1, model.loads)
        model.terms = replace(model.terms, need=e.need, reload_s=load_s)
        return []

    def pin(self, e: on.PinAsked) -> list[do.Effect]:
        """Keep a model from being put out, or no longer."""
        name = self._workers.names.usable(e.model, e.caller.account, e.caller.rights)
        if isinstance(name, Unusable):
            return [unusable(e.caller.conn, e.ref, name)]
        model = self.models[name]
        if model.adapts is not None:
            text = f"model '{name}' is an adapter: it stays as long as its base"
            hint = self._workers.names.blot(f"`ingle {'pin' if e.pinned else 'unpin'} {model.adapts}`", e.caller.rights)
            return [refuse(e.caller.conn, e.ref, "unsupported", text, hint, at="args.model")]
        model.pinned = e.pinned
        out: list[do.Effect] = []
        if model.ttl is not None and model.state is State.READY and not e.pinned:
            out.append(do.SetTimer(("ttl", name), e.now + model.ttl))
        value = {"model": name, "state": model.state.value, "pinned": model.pinned}
        return [*out, do.Send(e.caller.conn, Result(e.ref, value))]

    def hint(self, e: on.WantAsked) -> list[do.Effect]:
        """Load a model that somebody will probably ask, unless a busy one would have to wait for that."""
        name = self._workers.names.usable(e.model, e.caller.account, e.caller.rights)
        if isinstance(name, Unusable):
            return [unusable(e.caller.conn, e.ref, name)]
        model = self.models[name]
        out: list[do.Effect] = []
        why = None
        away = model.state in (State.COLD, State.SLEEPING)
        if away and model.restart_at is None and not self._workers.draining:
            decision = self.decide(e.now, model).decision
            if isinstance(decision, Fits | Evict):
                self.want(e.now, model, hint=True)
                out = self.place(e.now)
            else:
                why = decision.why
        self.used(e.now, model)
        left = model.left_s(e.now)
        eta = None if left is None else round(left * 1000)
        in_time = None if left is None else why is None and left <= e.within_s
        why = None if why is None else self._workers.names.blot(why, e.caller.rights)
        value = {"model": name, "state": model.state.value, "eta_ms": eta, "in_time": in_time, "why": why}
        return [*out, do.Send(e.caller.conn, Result(e.ref, value))]


def _all_of(names: Sequence[str]) -> str:
    """Return who makes what follows."""
    return f"{' and '.join(names)} make{'s' if len(names) == 1 else ''}"
