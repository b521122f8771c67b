"""The core under any order of events: served or refused exactly once, and who waits waits for something."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ingle.wire.schema import Accepted, Progress
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import ADMIN, Caller, Class, Rights
from ingled.core.control import Control
from ingled.core.desk import Limits
from ingled.core.events import Survival
from ingled.core.fairness import PATIENCE_S as PATIENCE_OF_ALL
from ingled.core.ladder import Sleep
from ingled.core.placement import Device, Terms, Wait
from ingled.core.requests import Stage
from ingled.core.residency import AWAY, CHANGING, MOVING, Model, State
from ingled.core.residents import PRESENT
from msgspec import Raw

NAMES = ("a", "b", "c")
AGAIN = on.SuspendEnds | on.RequestsMissed | on.NurseryAttached | on.WorkerAsleep
"""What an order that was lost is given again for."""
BEGUN = do.RunRequest | do.BeginRequest | do.StartWorker | do.WakeWorker
GIB = 1 << 30
PATIENCE_S = 3.0
PLACES = {"a": 2, "b": 0, "c": 1}
WHO: tuple[tuple[str, Class], ...] = (("uid:1", "normal"), ("uid:2", "normal"), ("uid:3", "batch"))
models = st.sampled_from(NAMES)
conns = st.integers(1, 3)


class Core(RuleBasedStateMachine):
    """A shell that believes everything and does what it is told."""

    need = 40 * GIB

    @initialize()
    def begin(self) -> None:
        terms = Terms(self.need, min_resident=1.0)
        models = [Model(name, terms=terms, ttl=20.0 if name == "c" else None) for name in NAMES]
        for model in models[:2]:  # the third cannot
            model.sleep = Sleep("", 30 * GIB, GIB)
        device = Device("gpu", 100 * GIB)  # two of the three
        self.core = Control(models, "a", Limits(keep_s=5.0, queue=4), device=device, patience_s=PATIENCE_S)
        self.timers: dict[str, float] = {}
        self.now = self.last = 0.0
        self.count = 0
        self.accepted: set[str] = set()
        self.ended: set[str] = set()
        self.streams: dict[str, tuple[int | None, bool]] = {}
        self.starts: list[str] = []
        self.restarts: set[str] = set()
        self.told: set[str] = set()
        self.leaving: set[int] = set()
        self.workers: dict[int, str] = {}
        self.running: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.answers: set[int] = set()
        self.refs = 0
        self.suspends: Survival | None = None
        self.allowed = False
        self.calls: set[int] = set()
        self.callers: dict[int, int] = {}

    def give(self, event: on.Event) -> None:
        self.last = event.now
        models = self.core.models.values()
        absent = {model.name for model in models if model.state not in PRESENT or model.asleep}
        pinned = {model.name for model in models if model.pinned}
        effects = self.core.handle(event)
        self.check_memory(absent)
        self.check_victims(effects, pinned)
        if self.suspends is Survival.LOST and not isinstance(event, AGAIN):
            begun = [one for one in effects if isinstance(one, BEGUN)]
            assert not begun, "nothing is begun while the machine is about to be suspended"
        again: list[on.Event] = []
        for effect in effects:
            match effect:
                case do.Send(_, Accepted() as message):
                    self.accepted.add(message.id)
                case do.Send(_, message) if (
                    getattr(message, "ref", None) in self.calls and type(message) is not Progress
                ):
                    ref = message.ref  # type: ignore[union-attr]
                    assert ref not in self.answers, "a call is answered twice"
                    self.answers.add(ref)  # type: ignore[arg-type]
                case do.OpenStream():
                    self.streams[effect.id] = (effect.conn, False)
                case do.RunRequest(worker, record) | do.HoldRequest(worker, record):
                    assert record.id not in self.running
                    assert record.id not in self.held
                    mine = self.running if isinstance(effect, do.RunRequest) else self.held
                    mine[record.id] = int(worker)
                case do.BeginRequest(worker, id):
                    assert self.held.pop(id) == int(worker)
                    self.running[id] = int(worker)
                case do.AbortRequest():
                    self.running.pop(effect.id, None)
                    self.held.pop(effect.id, None)
                case do.ReleaseRequest():
                    assert effect.id not in self.held
                case do.CloseStream():
                    assert effect.id not in self.ended, "a request ends twice"
                    self.ended.add(effect.id)
                    self.running.pop(effect.id, None)
                    assert effect.id not in self.held, "a worker holds for ever what has ended"
                    self.streams[effect.id] = (self.streams[effect.id][0], True)
                case do.CutStream():
                    conn, _ = self.streams.pop(effect.id)
                    told = effect.id in self.told or effect.end is not None
                    assert conn is None or conn in self.leaving or told, "a reader is not told the end"
                    self.ended.add(effect.id)
                case do.DetachStream():
                    self.streams[effect.id] = (None, self.streams[effect.id][1])
                case do.AttachStream():
                    self.streams[effect.id] = (effect.conn, self.streams[effect.id][1])
                    self.told.discard(effect.id)
                case do.Continue():
                    again.append(effect.event)
                case do.StartWorker():
                    self.starts.append(effect.model)
                case do.SetTimer(("restart", name), _):
                    self.restarts.add(name)
                case do.SetTimer(("place" | "ttl" | "suspend" as kind, name), at):
                    self.timers[f"{kind} {name}"] = at
                case do.StopWorker():
                    model = self.core.models[effect.model]
                    if not model.dying and model.state is State.STOPPING:
                        assert model.pid not in self.running.values(), "a busy model is put out"
                case do.SleepWorker(name, worker, level):
                    assert self.core.models[name].state is State.DOZING and level in (1, 2)
                    assert int(worker) not in self.running.values(), "a busy model is put to sleep"
                case do.WakeWorker(name, _):
                    assert self.core.models[name].state is State.WAKING
                case do.CheckWorker(name, worker):
                    assert self.core.models[name].state is State.CHECKING
                    assert int(worker) not in self.running.values(), "a busy model is looked at"
                case do.AllowSuspend():
                    self.allowed = True
                    if self.suspends is Survival.LOST and not self.core.draining:
                        there = [one for one in self.core.models.values() if one.state in PRESENT and one.pid]
                        assert all(one.state is State.SLEEPING for one in there), "its memory would be lost"
                case do.ClearTimer(("restart", name)):
                    self.restarts.discard(name)
        for more in again:
            self.give(more)

    def check_memory(self, absent: set[str]) -> None:
        """What begins to load fits beside what is there; what models take, and may take, is seen to change later."""
        present = [model for model in self.core.models.values() if model.state in PRESENT]
        budget = self.core.residents.devices[0].budget
        if absent & {model.name for model in present if model.state in (State.LOADING, State.WAKING)}:
            assert budget is not None
            assert sum(model.sleep.left if model.asleep else model.terms.need for model in present) <= budget
        assert sum(model.state in CHANGING for model in present) <= 1

    def check_victims(self, effects: list[do.Effect], pinned: set[str]) -> None:
        """Nobody goes for another one who is busy or pinned, or for one that will not fit whoever goes."""
        device = self.core.residents.devices[0]
        most = max(device.budget or 0, device.most or 0)
        for effect in effects:
            if not isinstance(effect, do.Log) or "makes room for '" not in effect.text:
                continue
            victim, wanted = effect.model, effect.text.split("makes room for '")[1].split("'")[0]
            assert victim not in pinned, "a pinned model is put out"
            assert not self.core.requests.turns[victim].running, "a busy model is put out"
            held = sum(self.core.models[name].terms.need for name in pinned if self.core.models[name].state in PRESENT)
            assert self.core.models[wanted].terms.need + held <= most, "a model is put out for one that will not fit"

    def tick(self) -> float:
        self.now += 0.25
        return self.now

    @rule(model=models, conn=conns, detach=st.booleans(), grace=st.sampled_from([0, 1000]), who=st.sampled_from(WHO))
    def request(self, model: str, conn: int, detach: bool, grace: int, who: tuple[str, Class]) -> None:
        self.count += 1
        caller = Caller(conn, who[0], Rights(priority=who[1]))
        e = on.RequestArrived(
            self.tick(), caller, 0, f"r{self.count}", "chat", model, Raw(b""), True, 4, 500, detach, grace, 0
        )
        self.give(e)

    def comes_up(self, model: str) -> None:
        """If a worker is to be started for a model, it is ready now."""
        for name in [name for name in self.starts if name == model]:
            self.starts.remove(name)
            pid = 100 + len(self.workers)
            self.workers[pid] = name
            self.give(on.WorkerForked(self.tick(), name, pid))
            self.give(on.WorkerAttached(self.tick(), name, str(pid), pid))
            self.give(on.WorkerReady(self.tick(), name, pid, PLACES[name]))

    @rule(attach_first=st.booleans())
    def fork(self, attach_first: bool) -> None:
        if self.starts:
            pid = 100 + len(self.workers)
            model = self.starts.pop(0)
            self.workers[pid] = model
            news = [on.WorkerForked(self.tick(), model, pid), on.WorkerAttached(self.tick(), model, str(pid), pid)]
            for event in reversed(news) if attach_first else news:
                self.give(event)

    def some_worker(self, data: st.DataObject) -> tuple[int, str] | None:
        alive = sorted((pid, name) for pid, name in self.workers.items() if name)
        return data.draw(st.sampled_from(alive)) if alive else None

    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        if (found := self.some_worker(data)) is not None:
            self.give(on.WorkerReady(self.tick(), found[1], found[0], PLACES[found[1]]))

    @rule(data=st.data(), well=st.booleans())
    def sleep_ends(self, data: st.DataObject, well: bool) -> None:
        """Also in states in which nobody waits for it: orders and news cross on the link, and may be given twice."""
        if (found := self.some_worker(data)) is not None:
            now, (pid, name) = self.tick(), found
            model = self.core.models[name]
            if model.state is State.LOADING and data.draw(st.integers(0, 3)) != 3:
                return  # one of an earlier daemon that sleeps is not the rule
            failed = on.SleepFailed(now, name, pid, "bad")
            self.give(on.WorkerAsleep(now, name, pid, model.level or 1, GIB) if well else failed)

    @rule(model=models, free=st.sampled_from([0, 31, 60]))
    def sleep_is_known(self, model: str, free: int) -> None:
        self.give(on.HostSeen(self.tick(), free * GIB))
        if model != "c":
            self.give(on.SleepSeen(self.tick(), model, Sleep("", 30 * GIB, GIB)))

    @rule(model=models, conn=conns, level=st.sampled_from([None, 1, 2]))
    def sleep(self, model: str, conn: int, level: int | None) -> None:
        self.refs += 1
        ref = 1000 + self.refs
        self.calls.add(ref)
        self.callers[ref] = conn
        self.give(on.SleepAsked(self.tick(), Caller(conn, "uid:1", ADMIN), ref, model, level))

    @rule(data=st.data(), how=st.sampled_from(["load", "gone", "both"]))
    def fail(self, data: st.DataObject, how: str) -> None:
        if (found := self.some_worker(data)) is None:
            return
        pid, name = found
        if how != "gone":
            died = data.draw(st.booleans())
            now = self.tick()
            self.give(on.EngineDied(now, name, pid, "bad") if died else on.LoadFailed(now, name, pid, "bad"))
        if how != "load":
            self.workers[pid] = ""
            for mine in (self.running, self.held):
                for id in [id for id, at in mine.items() if at == pid]:
                    del mine[id]
            self.give(on.WorkerGone(self.tick(), name, pid, "gone"))

    @rule(data=st.data(), good=st.booleans())
    def end(self, data: st.DataObject, good: bool) -> None:
        # Also news of requests that were aborted or have ended: they cross the core's own decisions on the link.
        if not self.accepted:
            return
        id = data.draw(st.sampled_from(sorted(self.running) or sorted(self.accepted)))
        now = self.tick()
        if not good:
            self.held.pop(id, None)  # a worker that says so holds it no more
        self.give(
            on.RunEnded(now, id, "stop", 1, 0, 1, 1.0, None, None)
            if good
            else on.RunFailed(now, id, "engine_error", "m", "h", "worker", None)
        )

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        if self.running:
            self.give(on.PlaceFreed(self.tick(), data.draw(st.sampled_from(sorted(self.running))), 1, 1))

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        over = sorted(id for id, (conn, closed) in self.streams.items() if closed and conn is not None)
        if over:
            id = data.draw(st.sampled_from(over))
            self.told.add(id)
            self.give(on.Delivered(self.tick(), id))

    @rule(data=st.data(), conn=conns)
    def cancel_or_attach(self, data: st.DataObject, conn: int) -> None:
        if self.accepted:
            id = data.draw(st.sampled_from(sorted(self.accepted)))
            caller = Caller(conn, "uid:1", ADMIN)
            cancel = data.draw(st.booleans())
            now = self.tick()
            self.give(on.CancelAsked(now, caller, 0, id) if cancel else on.AttachAsked(now, caller, 0, id, 0, 4))

    @rule(conn=conns, left=st.booleans())
    def vanish(self, conn: int, left: bool) -> None:
        self.leaving.add(conn)
        self.give(on.ConnectionGone(self.tick(), conn, left))
        self.leaving.discard(conn)
        self.calls = {ref for ref in self.calls if self.callers.get(ref) != conn}

    @rule(model=models, conn=conns)
    def load(self, model: str, conn: int) -> None:
        self.refs += 1
        ref = 1000 + self.refs
        self.calls.add(ref)
        self.callers[ref] = conn
        self.give(on.LoadAsked(self.tick(), Caller(conn, "uid:1", ADMIN), ref, model, True))

    @rule(model=models, force=st.booleans())
    def unload(self, model: str, force: bool) -> None:
        self.give(on.UnloadAsked(self.tick(), Caller(1, "uid:1", ADMIN), 0, model, force, True))

    @rule(data=st.data(), kind=st.sampled_from(["deadline", "grace", "keep"]))
    def timer(self, data: st.DataObject, kind: str) -> None:
        if self.accepted:
            self.give(on.TimerFired(self.tick(), (kind, data.draw(st.sampled_from(sorted(self.accepted))))))

    @rule(model=models)
    def restart(self, model: str) -> None:
        if model in self.restarts:
            self.restarts.discard(model)
            self.give(on.TimerFired(self.tick(), ("restart", model)))

    @rule(memory=st.sampled_from(Survival))
    def suspend(self, memory: Survival) -> None:
        if self.suspends is None:
            self.suspends, self.allowed = memory, False
            self.give(on.SuspendBegins(self.tick(), memory, 5.0))

    @rule()
    def resume(self) -> None:
        """Also before it was allowed: logind waits for nobody for ever."""
        now, self.suspends = self.tick(), None
        self.give(on.SuspendEnds(now))

    @rule(model=models, pinned=st.booleans())
    def pin(self, model: str, pinned: bool) -> None:
        self.give(on.PinAsked(self.tick(), Caller(1, "uid:1", ADMIN), 0, model, pinned))

    @rule(model=models, hint=st.booleans())
    def want_or_yield(self, model: str, hint: bool) -> None:
        caller, now = Caller(1, "uid:1", ADMIN), self.tick()
        self.give(on.WantAsked(now, caller, 0, model, 5.0) if hint else on.YieldAsked(now, caller, 0, None))

    @rule(model=models, gib=st.integers(30, 49), load_s=st.none() | st.just(2.0), budget=st.sampled_from([40, 80, 100]))
    def memory_is_seen(self, model: str, gib: int, load_s: float | None, budget: int) -> None:
        self.give(on.NeedSeen(self.tick(), model, gib * GIB, load_s))
        most = None if load_s is None else 100 * GIB  # what is less than that, others hold
        self.give(on.DeviceSeen(self.tick(), Device("gpu", budget * GIB, most)))

    @rule(pause=st.sampled_from([1.0, 5.0, 30.0]))
    def time_passes(self, pause: float) -> None:
        self.now += pause
        for key in [key for key, at in self.timers.items() if at <= self.now]:
            kind, _, name = key.partition(" ")
            del self.timers[key]
            self.give(on.TimerFired(self.tick(), (kind, name)))

    @rule()
    def nursery(self) -> None:
        self.starts.clear()  # what an earlier nursery was told is lost with it
        self.give(on.NurseryAttached(self.tick()))

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        if not hasattr(self, "core"):
            return
        for record in self.core.requests.records.values():
            model = self.core.models[record.model]
            if record.stage is Stage.QUEUED:
                waits = model.state in (*MOVING, State.STOPPING) or record.model in self.restarts
                busy = model.state is State.READY and self.core.requests.turns[record.model].taken
                held_up = self.core.residents.suspension.holds
                assert waits or self.hopeful(record.model) or model.closed or busy or held_up
                assert self.held.get(record.id) == (None if record.worker is None else int(record.worker))
                there = model.state is not State.READY or record.worker == model.worker
                assert there or held_up, "a death would lose it"
            if record.stage is Stage.RUNNING:
                assert record.id in self.running
                assert model.state in (State.READY, State.STOPPING)
            assert record.id in self.streams
            assert record.conn is not None or record.detach or record.grace_ms
        for model in self.core.models.values():
            if model.state is State.LOADING:
                assert model.pid is not None or model.name in self.starts
            if model.state in (State.READY, State.SLEEPING):
                assert self.workers[model.pid or 0] == model.name
            sleeps = model.state in (State.DOZING, State.SLEEPING, State.WAKING)
            assert bool(model.level) == sleeps or model.state is State.STOPPING

    @invariant()
    def nobody_waits_while_a_place_is_free_and_nobody_is_forgotten(self) -> None:
        if not hasattr(self, "core"):
            return
        records = self.core.requests.records.values()
        for name, turns in self.core.requests.turns.items():
            model, places = self.core.models[name], PLACES[name]
            assert set(turns.waiting) == {r.id for r in records if r.stage is Stage.QUEUED and r.model == name}
            assert set(turns.running) == {r.id for r in records if r.stage is Stage.RUNNING and r.model == name}
            assert {one.id for one, _ in turns.positions()} == set(turns.waiting)
            if model.state is not State.READY or model.closed or self.core.residents.suspension.holds:
                continue
            assert turns.next(self.last) is None
            if not places:
                assert not turns.waiting
            elif turns.waiting:
                assert turns.taken >= places - 1, "only batch requests wait, and for kept places only"
            again = any(self.core.requests.records[id].resumed for id in turns.running)  # a lost order is given again
            assert not places or turns.taken <= places + 1 or again
            running = {one.account for one in turns.running.values() if one.id not in turns._freed}
            for one in turns.waiting.values():
                if one.account not in running and self.last - max(one.arrived, turns._opened_at) > PATIENCE_OF_ALL:
                    assert turns.taken > places, "an account of which nothing runs has the next place"

    @rule(data=st.data(), lost=st.booleans())
    def link_comes_back(self, data: st.DataObject, lost: bool) -> None:
        if (found := self.some_worker(data)) is None:
            return
        pid, name = found
        if self.core.models[name].pid != pid or self.core.models[name].state is not State.READY:
            return
        held = [id for mine in (self.running, self.held) for id, at in mine.items() if at == pid]
        if lost and held:  # an order to run it, or to begin it, did not arrive
            id = data.draw(st.sampled_from(sorted(held)))
            held.remove(id)
            for mine in (self.running, self.held):
                mine.pop(id, None)
        waiting = frozenset(id for id in held if id in self.held)
        self.give(on.RequestsMissed(self.tick(), name, pid, frozenset(held), waiting))

    @invariant()
    def who_called_load_is_answered_or_waits_for_something(self) -> None:
        if not hasattr(self, "core"):
            return
        workers = self.core.workers
        for model in self.core.models.values():
            waits = model.state in (*MOVING, State.STOPPING) or model.name in self.restarts or self.hopeful(model.name)
            for call in workers._loads.of(model.name):
                held = self.core.residents.suspension.holds
                assert waits or held, f"call {call.ref} waits for a model that is {model.state}"
        sleepers = self.core.residents.sleepers
        assert not sleepers.due or any(one.state in MOVING for one in self.core.models.values())
        assert all(self.core.models[name].state is State.DOZING or name in sleepers.due for name, *_ in sleepers._calls)
        waiting = {ref for _, _, ref in sleepers._calls}
        for model in self.core.models.values():
            waiting |= {call.ref for call in workers._loads.of(model.name)}
            unloads = {call.ref for call in workers._unloads.of(model.name)}
            assert not unloads or model.state is State.STOPPING, f"unloads {unloads} wait for one that is {model.state}"
            waiting |= unloads
        assert self.calls <= self.answers | waiting

    def hopeful(self, name: str) -> bool:
        """It is wanted, and something will happen that lets it in: a load, a stop, an end, or a time."""
        residents = self.core.residents
        changing = any(model.state in (*MOVING, State.STOPPING) for model in self.core.models.values())
        return name in residents.wanted and (changing or bool(self.running) or "place " in self.timers)

    @invariant()
    def nobody_waits_for_busy_models_that_take_new_requests_for_ever(self) -> None:
        """After `patience` whoever is in the way takes no more, so that a wait has an end."""
        if not hasattr(self, "core") or self.core.residents.suspension.holds:
            return
        residents = self.core.residents
        for name, since in residents.wanted.items():
            model = self.core.models[name]
            if model.state not in AWAY or model.restart_at is not None:
                continue
            decision = residents.decide(self.last, model, waited=self.last - since).decision
            if isinstance(decision, Wait):
                late = self.last - since >= PATIENCE_S
                assert not late or all(self.core.models[one].closed for one in decision.blockers)
                ends = decision.until is None or decision.until > 0
                assert ends, "what is to be asked again is asked again later"
            return  # those behind it are decided beside what has been promised to it

    @invariant()
    def a_model_is_closed_only_while_somebody_waits_for_its_memory(self) -> None:
        if not hasattr(self, "core"):
            return
        present = [model for model in self.core.models.values() if model.state in PRESENT]
        waiting = {name for name in self.core.residents.wanted if self.core.residents._wanted(name)}
        closed = [model for model in present if model.closed]
        assert waiting or not closed, "a model is closed for nobody"

    @invariant()
    def everything_accepted_is_known_or_has_ended(self) -> None:
        if not hasattr(self, "core"):
            return
        known = set(self.core.requests.records)
        records = self.core.requests.records.values()
        for account, _ in WHO:
            mine = [record for record in records if record.account == account]
            assert self.core.requests.open_of(account) == sum(record.stage is not Stage.KEPT for record in mine)
        assert known | self.ended >= self.accepted
        assert +self.core.requests.stages == Counter(record.stage for record in records)
        reading = {one.id: conn for conn in range(9) for one in self.core.requests.read_by(conn)}
        assert reading == {record.id: record.conn for record in records if record.conn is not None}
        kept = self.core.requests.kept
        assert set(kept) == {record.id for record in records if record.stage is Stage.KEPT}
        assert sum(kept.values()) == self.core.requests.kept_bytes
        assert set(self.streams) == known


class Crowded(Core):
    """There is memory for all models, and more ask at once than there are places."""

    need = GIB

    def check_memory(self, absent: set[str]) -> None:
        """Is not of interest here."""

    @rule(model=models, who=st.lists(st.sampled_from(WHO), min_size=3, max_size=6))
    def crowd(self, model: str, who: list[tuple[str, Class]]) -> None:
        """Several ask at once and the model comes up: some run, and some wait for a place."""
        for one in who:
            self.request(model, 1, True, 0, one)
        self.comes_up(model)


class Sleepy(Core):
    """Models come up and fall asleep more often than in any order."""

    @rule(model=models, level=st.sampled_from([None, 1, 2]))
    def comes_up_and_falls_asleep(self, model: str, level: int | None) -> None:
        self.load(model, 1)
        self.comes_up(model)
        self.sleep(model, 1, level)

    @rule(model=models, memory=st.sampled_from([Survival.LOST, Survival.LOST, Survival.SAVED]), well=st.booleans())
    def comes_up_is_asked_and_the_machine_is_suspended(self, model: str, memory: Survival, well: bool) -> None:
        self.request(model, 2, True, 0, WHO[0])
        self.comes_up(model)
        self.suspend(memory)
        if well:
            self.time_passes(5.0)
            self.what_moves_has_moved(True)
            self.what_moves_has_moved(True)

    @rule(well=st.sampled_from([True, True, True, False]))
    def what_moves_has_moved(self, well: bool) -> None:
        for model in list(self.core.models.values()):
            name, pid, state = model.name, model.pid or 0, model.state
            if not well and state in (State.DOZING, State.WAKING):
                self.give(on.SleepFailed(self.tick(), name, pid, "bad"))
            elif state is State.DOZING:
                self.give(on.WorkerAsleep(self.tick(), name, pid, model.level, GIB))
            elif state in (State.WAKING, State.CHECKING):
                self.give(on.WorkerReady(self.tick(), name, pid, PLACES[name]))


TestCrowded = Crowded.TestCase
TestCrowded.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestSleepy = Sleepy.TestCase
TestSleepy.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCore = Core.TestCase
TestCore.settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
