"""How often models are asked: it is known after a restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from ingled.broker.ledger import Ledger
from ingled.broker.popularity import Popularity
from ingled.core.uses import Uses


def life(folder: Path, act: Callable[[Uses], None] = lambda uses: None) -> Uses:
    """Return the uses of one daemon, of which this happens and which then ends."""

    async def run() -> Uses:
        uses, book = Uses(), Ledger(folder, asyncio.get_running_loop())
        popularity = Popularity(uses, book)
        act(uses)
        popularity.write()
        await book.close()
        return uses

    return asyncio.run(run())


def ask(names: str) -> Callable[[Uses], None]:
    def act(uses: Uses) -> None:
        for number, name in enumerate(names):
            uses.add(number * 10.0, name)

    return act


def test_uses_outlive_the_daemon(tmp_path: Path) -> None:
    life(tmp_path, ask("aaab"))
    after = life(tmp_path)
    assert after.left() == pytest.approx({"a": 3, "b": 1}, rel=0.02)
    assert after.gap == 10
    assert after.popularity("a") == pytest.approx(0.75, rel=0.02)


def test_a_model_that_is_not_configured_for_a_while_is_not_forgotten(tmp_path: Path) -> None:
    life(tmp_path, ask("aaabb"))
    life(tmp_path, ask("bb"))
    assert life(tmp_path).left() == pytest.approx({"a": 3, "b": 4}, rel=0.05)


def test_nothing_is_written_when_nobody_asked(tmp_path: Path) -> None:
    life(tmp_path)
    assert not list(tmp_path.iterdir())
