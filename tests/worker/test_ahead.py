"""Requests that wait are prepared one after another, and handed out ready."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from ingle.wire.schema import CompleteBody
from ingled.worker import ahead
from ingled.worker.ahead import Ahead
from ingled.worker.engine import EngineRefused, Request


@dataclass(frozen=True)
class Prompt:
    id: str
    tokens: int = 10


def request(id: str) -> Request:
    return Request(id, CompleteBody(prompt=id))


@dataclass
class Kitchen:
    """Prepares when it is let."""

    begun: list[str] = field(default_factory=list)
    at_once: int = 0
    most: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def prepare(self, request: Request) -> Prompt:
        self.begun.append(request.id)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.go.wait()
        finally:
            self.at_once -= 1
        if request.id.startswith("bad"):
            raise EngineRefused("prompt_too_long", "it is", "no")
        return Prompt(request.id)


def run(test: Callable[[Kitchen, Ahead[Prompt]], Awaitable[None]]) -> None:
    async def whole() -> None:
        kitchen = Kitchen()
        await asyncio.wait_for(test(kitchen, Ahead(kitchen.prepare)), 60)

    asyncio.run(whole())


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_what_waits_is_prepared_in_order_and_once() -> None:
    async def test(kitchen: Kitchen, waiting: Ahead[Prompt]) -> None:
        kitchen.go.set()
        for id in ("a", "b", "bad", "c"):
            waiting.add(request(id))
        await settled()
        assert (kitchen.begun, kitchen.most) == (["a", "b", "bad", "c"], 1)
        assert [(await waiting.prepare(request(id))).id for id in ("c", "a")] == ["c", "a"]
        with pytest.raises(EngineRefused):
            await waiting.prepare(request("bad"))
        assert kitchen.begun == ["a", "b", "bad", "c"]
        assert (await waiting.prepare(request("new"))).id == "new", "what was never held is prepared now"

    run(test)


def test_whose_turn_comes_early_is_waited_for_or_prepared_at_once() -> None:
    async def test(kitchen: Kitchen, waiting: Ahead[Prompt]) -> None:
        for id in ("a", "b", "c"):
            waiting.add(request(id))
        await settled()
        async with asyncio.TaskGroup() as early:
            asked = [early.create_task(waiting.prepare(request(id))) for id in ("a", "c")]
            await settled()
            assert kitchen.begun == ["a", "c"], "one is under way, one does not wait for those before it"
            kitchen.go.set()
        assert [one.result().id for one in asked] == ["a", "c"]
        await settled()
        assert kitchen.begun == ["a", "c", "b"]

    run(test)


def test_what_is_not_wanted_any_more_is_forgotten_wherever_it_is() -> None:
    async def test(kitchen: Kitchen, waiting: Ahead[Prompt]) -> None:
        for id in ("a", "b", "c"):
            waiting.add(request(id))
        await settled()
        waiting.forget("a")
        waiting.forget("b")
        kitchen.go.set()
        await settled()
        waiting.forget("c")
        assert kitchen.begun == ["a", "c"]
        assert (await waiting.prepare(request("c"))).id == "c"
        assert kitchen.begun == ["a", "c", "c"]

    run(test)


def test_so_many_tokens_are_held_ready_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_TOKENS", 25)

    async def test(kitchen: Kitchen, waiting: Ahead[Prompt]) -> None:
        kitchen.go.set()
        for number in range(10):
            waiting.add(request(f"r{number}"))
        await settled()
        assert len(kitchen.begun) == 3
        await waiting.prepare(request("r0"))
        await settled()
        assert len(kitchen.begun) == 4
        for number in range(1, 10):
            waiting.forget(f"r{number}")
        waiting.add(request("last"))
        await settled()
        assert kitchen.begun[-1] == "last"

    run(test)


def test_what_is_ready_is_taken_at_once() -> None:
    async def test(kitchen: Kitchen, waiting: Ahead[Prompt]) -> None:
        assert waiting.take("a") is None, "nobody has held it"
        for id in ("a", "b", "bad"):
            waiting.add(request(id))
        await settled()
        assert waiting.has_begun("a") and not waiting.has_begun("b")
        assert waiting.take("a") is None and waiting.take("b") is None, "neither is ready"
        kitchen.go.set()
        await settled()
        assert waiting.take("b") == Prompt("b") and waiting.take("b") is None
        with pytest.raises(EngineRefused):
            waiting.take("bad")
        assert (await waiting.prepare(request("a"))).id == "a"
        assert kitchen.begun == ["a", "b", "bad"], "each once"

    run(test)
