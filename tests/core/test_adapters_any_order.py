"""Adapters under any order of events: none runs where it is not, none is forgotten, and a busy base stays."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ingle.wire.schema import Accepted
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import ADMIN, Caller
from ingled.core.control import Control
from ingled.core.placement import Device, Terms
from ingled.core.requests import Stage
from ingled.core.residency import Model, State
from msgspec import Raw

ADAPTERS = ("x", "y")
NAMES = ("base", "other", *ADAPTERS)
CALLER = Caller(1, "uid:1", ADMIN)
ALIVE = (State.LOADING, State.READY, State.STOPPING)


class Shell(RuleBasedStateMachine):
    """Workers that do what they are told, in order, whenever hypothesis lets them."""

    @initialize()
    def begin(self) -> None:
        terms = Terms(60)
        models = [
            Model("base", terms=terms),
            Model("other", terms=terms),
            *(Model(name, adapts="base") for name in ADAPTERS),
        ]
        self.core = Control(models, "base", device=Device("gpu", 100), patience_s=3.0)
        self.now = 0.0
        self.starts: list[str] = []
        self.workers: dict[int, str] = {}
        """By process id, while it lives."""
        self.orders: list[tuple[int, do.AddAdapter | do.DropAdapter]] = []
        self.has: dict[int, set[str]] = {}
        self.running: dict[str, tuple[int, str]] = {}
        self.accepted: set[str] = set()
        self.ended: set[str] = set()
        self.restarts: set[str] = set()
        self.place_at: float | None = None

    def give(self, event: on.Event) -> None:
        for effect in self.core.handle(event):
            match effect:
                case do.Send(_, Accepted() as message):
                    self.accepted.add(message.id)
                case do.StartWorker(name):
                    self.starts.append(name)
                case do.AddAdapter(worker, _) | do.DropAdapter(worker, _):
                    self.orders.append((int(worker), effect))
                case do.StopWorker(name, _, pid) if pid is not None and not self.core.models[name].dying:
                    assert pid not in {at for at, _ in self.running.values()}, "a busy base is put out"
                case do.RunRequest(worker, record):
                    pid = int(worker)
                    if record.model in ADAPTERS and pid in self.workers:
                        assert record.model in self.has[pid], "it runs where it is not"
                    self.running[record.id] = pid, record.model
                case do.BeginRequest(worker, id):
                    self.running[id] = int(worker), self.core.requests.records[id].model
                case do.AbortRequest(_, id):
                    self.running.pop(id, None)
                case do.CloseStream(id, _) | do.CutStream(id, _):
                    self.ended.add(id)
                    self.running.pop(id, None)
                case do.SetTimer(("restart", name), _):
                    self.restarts.add(name)
                case do.ClearTimer(("restart", name)):
                    self.restarts.discard(name)
                case do.SetTimer(("place", _), at):
                    self.place_at = at

    def tick(self) -> float:
        self.now += 0.25
        return self.now

    @rule(model=st.sampled_from(NAMES))
    def request(self, model: str) -> None:
        id = f"r{len(self.accepted) + 1}.{self.tick()}"
        self.give(on.RequestArrived(self.now, CALLER, 0, id, "chat", model, Raw(b""), True, 4, None, True, 0, 0))

    @rule(model=st.sampled_from(NAMES), wait=st.booleans())
    def load(self, model: str, wait: bool) -> None:
        self.give(on.LoadAsked(self.tick(), CALLER, 7, model, wait))

    @rule(model=st.sampled_from(NAMES), force=st.booleans())
    def unload(self, model: str, force: bool) -> None:
        self.give(on.UnloadAsked(self.tick(), CALLER, 8, model, force, True))

    @rule(model=st.sampled_from(NAMES))
    def hint(self, model: str) -> None:
        self.give(on.WantAsked(self.tick(), CALLER, 9, model, 5.0))

    @rule()
    def fork(self) -> None:
        if self.starts:
            name, pid = self.starts.pop(0), 100 + len(self.has)
            self.workers[pid], self.has[pid] = name, set()
            self.give(on.WorkerForked(self.tick(), name, pid))
            self.give(on.WorkerAttached(self.tick(), name, str(pid), pid))

    @rule(data=st.data(), good=st.booleans())
    def load_ends(self, data: st.DataObject, good: bool) -> None:
        loading = sorted(pid for pid, name in self.workers.items() if self.core.models[name].pid == pid)
        if loading:
            pid = data.draw(st.sampled_from(loading))
            name, now = self.workers[pid], self.tick()
            self.give(on.WorkerReady(now, name, pid, 2) if good else on.LoadFailed(now, name, pid, "bad", ()))

    @rule(good=st.booleans())
    def adapt(self, good: bool) -> None:
        if not self.orders:
            return
        pid, order = self.orders.pop(0)
        if pid not in self.workers:
            return
        if isinstance(order, do.DropAdapter):
            self.has[pid].discard(order.model)
            self.give(on.AdapterGone(self.tick(), order.model, pid))
        elif good:
            self.has[pid].add(order.model)
            self.give(on.AdapterReady(self.tick(), order.model, pid))
        else:
            self.give(on.AdapterFailed(self.tick(), order.model, pid, "bad"))

    @rule(data=st.data(), said=st.booleans())
    def die(self, data: st.DataObject, said: bool) -> None:
        if self.workers:
            pid = data.draw(st.sampled_from(sorted(self.workers)))
            name = self.workers[pid]
            if said:
                self.give(on.EngineDied(self.tick(), name, pid, "bad"))
            del self.workers[pid]
            self.running = {id: at for id, at in self.running.items() if at[0] != pid}
            self.give(on.WorkerGone(self.tick(), name, pid, "gone"))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.running:
            id = data.draw(st.sampled_from(sorted(self.running)))
            del self.running[id]
            self.give(on.RunEnded(self.tick(), id, "stop", 1, 0, 1, 1.0, None, None))

    @rule(pause=st.sampled_from([1.0, 5.0, 70.0]))
    def time_passes(self, pause: float) -> None:
        self.now += pause
        restarts, self.restarts = self.restarts, set()
        for name in sorted(restarts):
            self.give(on.TimerFired(self.tick(), ("restart", name)))
        if self.place_at is not None and self.place_at <= self.now:
            self.place_at = None
            self.give(on.TimerFired(self.tick(), ("place", "")))

    @invariant()
    def an_adapter_is_only_where_its_base_is(self) -> None:
        if not hasattr(self, "core"):
            return
        base = self.core.models["base"]
        for name in ADAPTERS:
            model = self.core.models[name]
            if model.state in ALIVE:
                assert base.state is State.READY and (model.worker, model.pid) == (base.worker, base.pid)
                orders = [order for pid, order in self.orders if pid == base.pid and order.model == name]
                if model.state is not State.READY and base.pid in self.workers:
                    assert orders, "who changes waits for its worker"
            else:
                assert model.worker is None and model.pid is None

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        if not hasattr(self, "core"):
            return
        changing = any(model.state in (State.LOADING, State.STOPPING) for model in self.core.models.values())
        for record in self.core.requests.records.values():
            if record.stage is not Stage.QUEUED:
                continue
            model = self.core.models[record.model]
            home = self.core.models[model.adapts or model.name]
            full = model.state is State.READY and (self.running or model.closed)
            wanted = home.name in self.core.residents.wanted and (self.running or self.place_at is not None)
            assert changing or full or home.name in self.restarts or wanted, f"{record.model} is {model.state}"

    @invariant()
    def no_request_is_lost(self) -> None:
        if hasattr(self, "core"):
            assert set(self.core.requests.records) | self.ended >= self.accepted
            there = {"base": self.core.models["base"].state, "other": self.core.models["other"].state}
            assert sum(state in ALIVE for state in there.values()) <= 1, "there is room for one of them"


TestShell = Shell.TestCase
TestShell.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
