"""The ledger: what is learned stays, and nothing that cannot be read is lost."""

import asyncio
import errno
import os
from pathlib import Path

import pytest
from ingled.broker import ledger
from ingled.broker.ledger import Ledger

KEY = ledger.key("digest", None, {"dtype": "float32"}, "cpu", "vllm 0.32")


def learn(folder: Path, *loads: tuple[str, int, float], grown: int = 0) -> Ledger:
    async def run() -> Ledger:
        book = Ledger(folder, asyncio.get_running_loop())
        for key, taken, seconds in loads:
            book.loaded(key, "m", "cpu", taken, 64, seconds)
        if grown:
            book.grew(KEY, grown)
        await book.close()
        return book

    return asyncio.run(run())


def test_what_is_learned_is_there_after_a_restart(tmp_path: Path) -> None:
    learn(tmp_path, (KEY, 1000, 5.0), grown=1005)
    book = learn(tmp_path, (KEY, 1100, 2.0), grown=1500)
    entry = learn(tmp_path).entries[KEY]
    assert entry == book.entries[KEY]
    assert (entry.taken, entry.most, entry.load_s, entry.loads, entry.kv_cache) == (1100, 1500, 2.0, 2, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.json"]
    assert (tmp_path / "ledger.json").stat().st_mode & 0o777 == 0o600


def test_that_the_largest_batch_has_run_is_kept_over_loads(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        book = Ledger(tmp_path, asyncio.get_running_loop())
        book.loaded(KEY, "m", "cpu", 1000, 64, 1.0)
        news = [book.grew(KEY, 1005), book.grew(KEY, 1005, full=True), book.grew(KEY, 1000, full=True)]
        news.append(book.grew("other", 1, full=True))
        book.loaded(KEY, "m", "cpu", 1001, 64, 1.0)
        await book.close()
        return news

    assert asyncio.run(run()) == [False, True, False, False]
    entry = learn(tmp_path).entries[KEY]
    assert (entry.full, entry.most) == (True, 1005)


def test_who_ran_out_of_memory_is_remembered_until_its_largest_batch_has_run(tmp_path: Path) -> None:
    async def run() -> list[tuple[int, int]]:
        book = Ledger(tmp_path, asyncio.get_running_loop())
        told = []

        def tell() -> None:
            told.append((book.entries[KEY].short, book.entries[KEY].loads))

        book.short(KEY, "m", "cpu", 1000)
        tell()
        book.short(KEY, "m", "cpu", 900)
        book.loaded(KEY, "m", "cpu", 800, 64, 1.0)
        tell()
        assert book.grew(KEY, 900) and not book.grew(KEY, 900)
        tell()
        assert book.grew(KEY, 900, full=True) and not book.grew(KEY, 900, full=True)
        tell()
        book.short(KEY, "m", "cpu", 1000)
        tell()
        assert book.grew(KEY, 900, full=True), "once more, and now it lived"
        tell()
        await book.close()
        return told

    assert asyncio.run(run()) == [(1000, 0), (1000, 1), (1000, 1), (0, 1), (1000, 1), (0, 1)]
    entry = learn(tmp_path).entries[KEY]
    assert (entry.short, entry.full, entry.most, entry.loads) == (0, True, 900, 1)


def test_a_load_that_was_not_measured_keeps_what_was(tmp_path: Path) -> None:
    entry = learn(tmp_path, (KEY, 1000, 5.0), (KEY, 0, 3.0)).entries[KEY]
    assert (entry.taken, entry.kv_cache, entry.load_s, entry.loads) == (1000, 64, 3.0, 2)


def test_another_option_device_digest_or_engine_is_another_entry() -> None:
    keys = {
        KEY,
        ledger.key("digest", None, {"dtype": "bfloat16"}, "cpu", "vllm 0.32"),
        ledger.key("other", None, {"dtype": "float32"}, "cpu", "vllm 0.32"),
        ledger.key("digest", "r2", {"dtype": "float32"}, "cpu", "vllm 0.32"),
        ledger.key("digest", None, {"dtype": "float32"}, "gpu 0", "vllm 0.32"),
        ledger.key("digest", None, {"dtype": "float32"}, "cpu", "vllm 0.33"),
        ledger.key("digest", None, {"dtype": "float32"}, "cpu", "vllm 0.32", ["/one"]),
        ledger.key("digest", None, {"dtype": "float32"}, "cpu", "vllm 0.32", ["/one", "/other"]),
    }
    assert len(keys) == 8
    assert ledger.key("d", None, {}, "", "", ["/b", "/a"]) == ledger.key("d", None, {}, "", "", iter(["/a", "/b"]))
    assert ledger.key("d", None, {"a": 1, "b": 2}, "", "") == ledger.key("d", None, {"b": 2, "a": 1}, "", "")


@pytest.mark.parametrize("text", ["", "{", '{"version": 1}', '{"version": 2, "entries": {}}', "[" * 100_000])
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    book = learn(tmp_path, (KEY, 1000, 5.0))
    (aside,) = tmp_path.glob("ledger.json.unreadable-*")
    assert aside.read_text() == text and str(aside) in book.problem
    assert learn(tmp_path).entries[KEY].taken == 1000
    (tmp_path / "ledger.json").write_text("again")
    learn(tmp_path)
    assert len(list(tmp_path.glob("ledger.json.unreadable-*"))) == 2


def test_what_can_neither_be_read_nor_set_aside_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, target: Path) -> Path:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "ledger.json").write_text("{")

    async def run() -> Ledger:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", refused)
            book = Ledger(tmp_path, asyncio.get_running_loop())
        book.loaded(KEY, "m", "cpu", 1000, 64, 5.0)
        await book.close()
        return book

    book = asyncio.run(run())
    assert "cannot be set aside (Operation not permitted)" in book.problem
    assert book.entries[KEY].taken == 1000
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("ledger.json", "{")]


def test_a_full_disk_is_told_once_until_it_has_room_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        book = Ledger(tmp_path, asyncio.get_running_loop())
        for full in (True, True, False, True):
            if full and not blocked.exists():
                blocked.mkdir()
            elif not full:
                blocked.rmdir()
            book.loaded(KEY, "m", "cpu", 1000, 64, 5.0)
            await book.close()

    blocked = tmp_path / ".ledger.json.new"
    caplog.set_level("INFO")
    asyncio.run(run())
    told = [record.getMessage() for record in caplog.records if record.name == ledger.__name__]
    assert ["cannot be written" in text for text in told] == [True, False, True]
    assert told[1] == "the ledger is written again"


def test_the_oldest_entries_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST", 3)
    book = learn(tmp_path, *((str(n), 1, 1.0) for n in range(4)), ("1", 1, 1.0), ("5", 1, 1.0))
    assert list(book.entries) == ["3", "1", "5"]


def test_a_folder_that_cannot_be_written_costs_only_what_is_learned(tmp_path: Path) -> None:
    (tmp_path / ".ledger.json.new").mkdir()
    assert learn(tmp_path, (KEY, 1000, 5.0)).entries[KEY].taken == 1000
    assert not (tmp_path / "ledger.json").exists()
