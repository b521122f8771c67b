"""How often models are asked: it is known after a restart, less so the longer that took."""

import asyncio
import time
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from ingled.broker.ledger import Ledger
from ingled.broker.popularity import Popularity
from ingled.core.placement import MEMORY_S
from ingled.core.residency import Model

T = TypeVar("T")


def life(folder: Path, models: dict[str, Model], act: Callable[[Ledger, Popularity, float], T]) -> T:
    """Return what `act` does with the ledger of one daemon, which then ends."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        book = Ledger(folder, loop)
        done = act(book, Popularity(models, book, loop), loop.time())
        await book.close()
        return done

    return asyncio.run(run())


def ask(models: dict[str, Model], **times: int) -> Callable[[Ledger, Popularity, float], None]:
    def act(_: Ledger, popularity: Popularity, now: float) -> None:
        for name, count in times.items():
            for _use in range(count):
                models[name].used(now)
        popularity.write()

    return act


def left(models: dict[str, Model]) -> Callable[[Ledger, Popularity, float], dict[str, float]]:
    return lambda book, popularity, now: {name: model.uses.left(now) for name, model in models.items()}


def test_uses_outlive_the_daemon(tmp_path: Path) -> None:
    before = {"a": Model("a"), "b": Model("b"), "c": Model("c")}
    life(tmp_path, before, ask(before, a=3, b=1))
    after = {"a": Model("a"), "b": Model("b"), "new": Model("new")}
    found = life(tmp_path, after, left(after))
    assert found == pytest.approx({"a": 3, "b": 1, "new": 0}, rel=0.1)


def test_uses_fade_while_no_daemon_runs(tmp_path: Path) -> None:
    before = {"a": Model("a")}
    life(tmp_path, before, ask(before, a=8))
    file = tmp_path / "ledger.json"
    whole = msgspec.json.decode(file.read_bytes())
    whole["asked"]["at"] = time.time() - MEMORY_S
    file.write_bytes(msgspec.json.encode(whole))
    after = {"a": Model("a")}
    assert life(tmp_path, after, left(after))["a"] == pytest.approx(8 * exp(-1), rel=0.1)


def test_a_model_that_is_not_configured_for_a_while_is_not_forgotten(tmp_path: Path) -> None:
    before = {"a": Model("a"), "b": Model("b")}
    life(tmp_path, before, ask(before, a=3, b=2))
    between = {"b": Model("b")}
    life(tmp_path, between, ask(between, b=2))
    after = {"a": Model("a"), "b": Model("b")}
    assert life(tmp_path, after, left(after)) == pytest.approx({"a": 3, "b": 4}, rel=0.1)


def test_nothing_is_written_when_nobody_asked(tmp_path: Path) -> None:
    models = {"a": Model("a")}
    life(tmp_path, models, lambda book, popularity, now: popularity.write())
    assert not list(tmp_path.iterdir())
