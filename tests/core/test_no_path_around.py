"""Whatever comes and goes in whatever order: no request passes a hook that it was to meet, and all are told of."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from ingle.wire.hook_schema import HookOffer, HookResult, Point, Select
from ingle.wire.schema import Done, Failed
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Caller, Rights
from ingled.core.control import Control
from ingled.core.registry import Entry
from ingled.core.residency import Model
from msgspec import Raw

POINTS: tuple[Point, ...] = ("request", "prompt", "answer")
MODELS = ("ember", "coal")
ASKER, TOOL = Caller(1, "uid:1000", Rights()), Caller(7, "uid:1000", Rights())
BODY = Raw(msgspec.msgpack.encode({"messages": [{"role": "user", "content": "hi"}]}))


@dataclass
class Request:
    """What is known of it from outside."""

    seen: set[str]
    """Hooks that have been there, unchanged, since it came."""
    call: do.CallHooks | None = None
    running: bool = False
    finishing: bool = False
    end: Done | Failed | None = None
    model: str = ""


@dataclass
class World:
    """A daemon, its hooks, and requests on their way."""

    data: st.DataObject
    offers: dict[str, HookOffer] = field(default_factory=dict)
    """Of plugins."""
    solo: set[str] = field(default_factory=set)
    requests: dict[str, Request] = field(default_factory=dict)
    now: float = 1.0

    def __post_init__(self) -> None:
        self.core = Control([Model(name) for name in MODELS], "ember")
        for pid, name in enumerate(MODELS, 50):
            self.do(on.WorkerAttached(0.1, name, str(pid), pid))
            self.do(on.WorkerReady(0.2, name, pid))
        for index in range(self.data.draw(st.integers(1, 3))):
            name = f"p{index}"
            self.offers[name] = self.offer(name, scope="all")
        self.plugins(set(self.offers))

    def offer(self, name: str, **more: Any) -> HookOffer:
        draw = self.data.draw
        points = draw(st.sets(st.sampled_from(POINTS), min_size=1))
        models = draw(st.sampled_from([[], [], ["ember"], ["coal"]]))
        fields = {"order": draw(st.integers(1, 9)), "on_error": draw(st.sampled_from(["refuse", "skip"])), **more}
        return HookOffer(3, name, sorted(points), select=Select(models), **fields)

    # ------------------------------------------------------------ what happens

    def do(self, event: on.Event) -> None:
        self.now += 0.01
        for effect in self.core.handle(event):
            match effect:
                case do.CallHooks() if effect.reply:
                    request = self.requests[effect.id]
                    assert request.call is None, "one call at a time"
                    request.call = effect
                    present = self.core.pipeline.registry.entries
                    homes = {one.provider for one in present.values() if one.name in effect.hooks}
                    assert homes == {effect.provider}, "hooks are called where they are now"
                case do.RunRequest():
                    self.requests[effect.record.id].running = True
                    self.requests[effect.record.id].model = effect.record.model
                case do.FinishStages():
                    self.requests[effect.id].finishing = True
                case do.CloseStream() | do.CutStream() if effect.end is not None:
                    request = self.requests[effect.id]
                    assert request.end is None, "one end"
                    request.end, request.call = effect.end, None
                    self.check(request)

    def plugins(self, names: set[str]) -> None:
        """Hosts offer these plugins, and no others."""
        for request in self.requests.values():
            request.seen &= names | {name for name in request.seen if name.startswith("c")}
        for provider in ["group:main", *(f"group:solo:{name}" for name in self.offers)]:
            mine = [one for one in names if (f"group:solo:{one}" if one in self.solo else "group:main") == provider]
            entries = tuple(Entry(self.offers[one], provider) for one in sorted(mine))
            self.do(on.PluginsOffered(self.now, provider, entries))

    def arrive(self) -> None:
        id = f"r{len(self.requests)}"
        present = {entry.name for entry in self.core.pipeline.registry.entries.values()}
        self.requests[id] = Request(present)
        model = self.data.draw(st.sampled_from([None, *MODELS]))
        self.do(on.RequestArrived(self.now, ASKER, 9, id, "chat", model, BODY, True, 4, None, False, 0, 0))

    def answer(self, id: str, request: Request) -> None:
        call, draw = request.call, self.data.draw
        assert call is not None
        request.call = None
        match draw(st.sampled_from(["reply", "reply", "reply", "late", "again"])):
            case "late":
                blamed = draw(st.sets(st.sampled_from(call.hooks)))
                self.do(on.HookFailed(self.now, id, call.point, tuple(sorted(blamed)), "late"))
            case "again":
                self.do(on.HookAgain(self.now, id, call.point))
            case "reply":
                kinds = ["unchanged", "unchanged", "error", *(["changed"] * 2 if call.point == "request" else [])]
                results = tuple(HookResult(name, draw(st.sampled_from(kinds))) for name in call.hooks)
                value = (
                    {"request": {**call.value["request"], "model": draw(st.sampled_from(MODELS))}}
                    if (call.point == "request")
                    else None
                )
                self.do(on.HookReplied(self.now, id, call.point, results, value))

    def step(self) -> None:
        draw, open = self.data.draw, [(id, one) for id, one in self.requests.items() if one.end is None]
        match draw(st.sampled_from(["arrive", "go on", "go on", "go on", "offer", "leave", "plugins", "move"])):
            case "arrive":
                self.arrive()
            case "go on" if open:
                self.go_on(*draw(st.sampled_from(open)))
            case "offer":
                name = draw(st.sampled_from(["c0", "c1"]))
                for _, request in open:
                    request.seen.discard(name)
                self.do(on.HookOffered(self.now, TOOL, "tool", self.offer(name)))
            case "leave":
                for _, request in open:
                    request.seen -= {"c0", "c1"}
                self.do(on.ConnectionGone(self.now, 7, True))
            case "plugins":
                self.plugins(draw(st.sets(st.sampled_from(sorted(self.offers)))))
            case "move":
                self.solo.add(draw(st.sampled_from(sorted(self.offers))))
                present = {entry.name for entry in self.core.pipeline.registry.entries.values()}
                self.plugins(present & set(self.offers))

    def go_on(self, id: str, request: Request) -> None:
        if request.call is not None:
            self.answer(id, request)
        elif request.finishing:
            request.finishing = False
            self.do(on.StationsEnded(self.now, id, "text"))
        else:
            assert request.running, "whoever waits waits for something"
            request.running = False
            self.do(on.RunEnded(self.now, id, "stop", 1, 0, 1, 0.1, None, None))

    # ------------------------------------------------------------ what must be true

    def check(self, request: Request) -> None:
        end = request.end
        if not isinstance(end, Done):
            assert end is not None and end.code == "hook_failed", end
            return
        told = {(one["name"], one["point"]): one["verdict"] for one in end.hooks}
        for entry in self.core.pipeline.registry.entries.values():
            offer = entry.offer
            if entry.name in request.seen and (not offer.select.models or request.model in offer.select.models):
                for point in set(offer.points) & set(POINTS):
                    assert (entry.name, point) in told, f"{entry.name} was there all the time, and not met at {point}"
                    assert told[entry.name, point] in ("unchanged", "changed") or offer.on_error == "skip"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_request_passes_a_hook_that_it_was_to_meet(data: st.DataObject) -> None:
    world = World(data)
    for _ in range(data.draw(st.integers(3, 30))):
        world.step()
    for id, request in world.requests.items():
        for _ in range(60):
            if request.end is not None:
                break
            world.go_on(id, request)
        assert request.end is not None
