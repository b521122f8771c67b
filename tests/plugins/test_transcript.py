"""Transcripts: what is written, for whom, how long; and that nothing that goes wrong with files harms anything."""

import json
import logging
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ingle_plugins import transcript
from ingle_plugins.transcript import Options
from ingle_plugins.transcript.store import Limits, Store, Unsafe
from ingled.hooks import Answer, Call

ANSWER: Answer = {
    "text": "It is 42.\nReally.",
    "finish": "stop",
    "model": {"name": "ember"},
    "usage": {"prompt": 3, "cached": 0, "completion": 9},
    "options": {"temperature": 0.5},
    "messages": [{"role": "user", "content": "What is it? My key is sk-12345678."}],
    "hooks": [{"name": "guard", "verdict": "unchanged"}],
}
CALL = Call("observe", id="r1", account="uid:1000", op="chat", client="ingle", tags=["shell"])
DAY = 86400.0
LIMITS = Limits(rotate_bytes=1000, rotate_seconds=DAY, keep_seconds=3 * DAY, keep_bytes=1 << 20, sync="never")
START = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def lines(folder: Path, account: str = "uid%3A1000") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{account}.jsonl").read_text().splitlines()]


def observe(folder: Path, answer: Answer = ANSWER, call: Call = CALL, **options: Any) -> None:
    transcript.ingled_observe(answer, call, Options(str(folder), **options))


# ---------------------------------------------------------------- what is written


def test_a_line_says_who_asked_what_and_what_was_answered(folder: Path) -> None:
    observe(folder)
    observe(folder, call=Call("observe", id="r2", account="uid:1001"))
    (line,) = lines(folder)
    assert line.pop("time").endswith("Z")
    assert line == {
        "id": "r1", "account": "uid:1000", "client": {"name": "ingle", "tags": ["shell"]}, "op": "chat", **ANSWER,
    }  # fmt: skip
    assert lines(folder, "uid%3A1001")[0]["id"] == "r2"


def test_nobody_else_can_read_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        observe(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_fields_are_left_out(folder: Path) -> None:
    observe(folder, leave_out=("messages", "text", "hooks"))
    assert set(lines(folder)[0]) == {"time", "id", "account", "client", "op", "model", "finish", "usage", "options"}


def test_patterns_are_taken_out_of_every_text(folder: Path) -> None:
    observe(folder, patterns=(r"sk-\d+", r"\d\d", "ember"))
    (line,) = lines(folder)
    assert line["messages"][0]["content"] == "What is it? My key is [redacted]."
    assert (line["text"], line["model"]["name"]) == ("It is [redacted].\nReally.", "[redacted]")
    assert line["time"].startswith("20") and line["account"] == "uid:1000"


def test_what_one_text_gives_away_is_written_in_none(folder: Path) -> None:
    transcript.check(Options(str(folder), redact=True))
    messages: list[Any] = [{"role": "user", "content": "I am anna.schmidt@firma.de, password = Xk29sPqLw81z"}]
    observe(folder, {**ANSWER, "messages": messages, "text": "Is it Xk29sPqLw81z, anna.schmidt@firma.de?"}, redact=True)
    (line,) = lines(folder)
    assert line["messages"][0]["content"] == "I am [redacted], password = [redacted]"
    assert line["text"] == "Is it [redacted], [redacted]?"
    assert (line["id"], line["model"]["name"]) == ("r1", "ember")


def test_what_the_redaction_fails_at_is_not_written(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, text: str) -> Any:
        raise RuntimeError(text)

    monkeypatch.setattr("ingle_plugins.redact.find.Finder.find", broken)
    observe(folder, redact=True)
    assert not folder.exists() or list(folder.iterdir()) == []
    assert "RuntimeError" in caplog.text and "sk-1234" not in caplog.text


def test_texts_are_lines_whatever_is_in_them(folder: Path) -> None:
    text = "a\nb\r\u2028\u2029\u0085\x0b\x00\ud800\U0001f600"
    observe(folder, {**ANSWER, "text": text})
    assert len((folder / "uid%3A1000.jsonl").read_text().splitlines()) == 1
    assert lines(folder)[0]["text"] == text.replace("\ud800", "\\ud800") or lines(folder)[0]["text"] == text


def test_a_line_that_is_too_long_is_cut(folder: Path) -> None:
    long = [{"role": "user", "content": "x" * 50_000}, {"role": "user", "content": "\x01" * 50_000}]
    observe(folder, {**ANSWER, "messages": long, "text": "y" * 50_000}, line_bytes=4096)  # type: ignore[typeddict-item]
    observe(folder, {**ANSWER, "messages": long[:1] * 3000}, line_bytes=1024)  # type: ignore[typeddict-item]
    raw = (folder / "uid%3A1000.jsonl").read_bytes().splitlines()
    assert len(raw[0]) <= 4096 and len(raw[1]) <= 1024
    first, second = lines(folder)
    assert first["cut"] and "characters in all]" in first["text"]
    assert second["cut"] and second["id"] == "r1"


# ---------------------------------------------------------------- rotation and deletion


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dated(when: float, size: int = 100) -> bytes:
    from datetime import UTC, datetime

    time = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return (json.dumps({"time": time, "x": "x" * size}, separators=(",", ":")) + "\n").encode()


def test_a_large_file_is_put_aside(folder: Path) -> None:
    store = Store(folder, LIMITS)
    for n in range(4):
        store.append("a", dated(START, 600), START + n)
    assert names(folder) == ["a.20270115T080002Z.jsonl", "a.jsonl"]
    assert sum(path.read_text().count("\n") for path in folder.iterdir()) == 4
    assert all(path.stat().st_size < 2000 for path in folder.iterdir())


def test_two_in_the_same_second_get_two_names(folder: Path) -> None:
    store = Store(folder, LIMITS)
    for _ in range(6):
        store.append("a", dated(START, 2000), START)
    assert names(folder) == [
        *(f"a.20270115T080000Z{n}.jsonl" for n in (".1", ".2", ".3", ".4")), "a.20270115T080000Z.jsonl", "a.jsonl",
    ]  # fmt: skip


def test_an_old_file_is_put_aside(folder: Path) -> None:
    store = Store(folder, LIMITS)
    store.append("a", dated(START), START)
    store.append("a", dated(START + DAY - 1), START + DAY - 1)
    assert names(folder) == ["a.jsonl"]
    Store(folder, LIMITS).append("a", dated(START + DAY), START + DAY)
    assert len(names(folder)) == 2


def test_files_are_deleted_when_they_are_too_old(folder: Path) -> None:
    store = Store(folder, LIMITS)
    store.append("a", dated(START, 2000), START)
    store.append("a", dated(START, 2000), START)
    (old,) = [path for path in folder.iterdir() if path.name != "a.jsonl"]
    for name in ("a.jsonl", "notes.txt", "a.20270101.jsonl"):
        (folder / name).touch()
    store.append("a", b"{}\n", START + 2 * DAY)
    assert old.exists()
    store.append("a", b"{}\n", START + 3 * DAY + 10)
    assert not old.exists()
    assert (folder / "notes.txt").exists() and (folder / "a.20270101.jsonl").exists()


def test_the_oldest_are_deleted_when_there_is_too_much(folder: Path) -> None:
    store = Store(folder, LIMITS._replace(keep_bytes=5000))
    for n in range(10):
        store.append("a", dated(START, 2000), START + n)
    aside = [name for name in names(folder) if name != "a.jsonl"]
    assert aside == ["a.20270115T080008Z.jsonl", "a.20270115T080009Z.jsonl"]


@pytest.mark.parametrize("sync", ["never", "rotate", "line"])
def test_whatever_the_disk_must_hold_when(folder: Path, sync: str) -> None:
    store = Store(folder, LIMITS._replace(sync=sync))
    for _ in range(3):
        store.append("a", dated(START, 2000), START)
    assert len(names(folder)) == 3


def test_two_processes_write_whole_lines(folder: Path) -> None:
    stores = [Store(folder, LIMITS._replace(rotate_bytes=20_000)) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda store=store: [store.append("a", dated(START), START) for _ in range(200)])  # type: ignore[misc]
        for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [line for path in folder.iterdir() for line in path.read_bytes().splitlines()]
    assert len(written) == 800 and set(written) == {dated(START).strip()}


def test_a_file_that_another_process_puts_aside_meanwhile_costs_no_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(folder, LIMITS._replace(rotate_bytes=100))
    store.append("a", dated(START, 200), START)

    def comes_too_late(file: int, operation: int) -> None:
        (folder / "a.jsonl").rename(folder / "a.20270115T080000Z.jsonl")

    monkeypatch.setattr("ingle_plugins.transcript.store.fcntl.flock", comes_too_late)
    store.append("a", dated(START, 300), START)
    assert names(folder) == ["a.20270115T080000Z.jsonl", "a.jsonl"]
    assert (folder / "a.jsonl").read_bytes() == dated(START, 300)


# ---------------------------------------------------------------- what goes wrong


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: the nearest to a full disk that needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_lines_and_says_how_many(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    observe(folder)
    file = folder / "uid%3A1000.jsonl"
    size = file.stat().st_size
    with full_disk(size + 100):
        for _ in range(3):
            observe(folder)
    assert file.stat().st_size == size  # no half lines
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "File too large; 1 lines are lost so far" in caplog.text and "42" not in caplog.text
    observe(folder)
    observe(folder)
    assert [line.get("lost_before") for line in lines(folder)] == [None, 3, None]


def test_it_never_writes_through_a_link(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "victim").write_text("precious")
    folder.mkdir(mode=0o700)
    (folder / "uid%3A1000.jsonl").symlink_to(tmp_path / "victim")
    observe(folder)
    (folder / "uid%3A1000.jsonl").unlink()
    os.link(tmp_path / "victim", folder / "uid%3A1000.jsonl")
    observe(folder)
    (folder / "uid%3A1000.jsonl").unlink()
    os.mkfifo(folder / "uid%3A1000.jsonl")
    observe(folder)
    (folder / "uid%3A1000.jsonl").unlink()
    (folder / "uid%3A1000.jsonl").mkdir()
    observe(folder)
    assert (tmp_path / "victim").read_text() == "precious"
    assert transcript._store(Options(str(folder))).lost == 4


def test_nor_into_a_folder_that_is_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    observe(folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with pytest.raises(ValueError, match="folder: "):
        transcript.check(Options(str(folder)))


def test_nor_deletes_through_one(folder: Path, tmp_path: Path) -> None:
    store = Store(folder, LIMITS)
    store.append("a", b"{}\n", START)
    (tmp_path / "victim").write_text("precious")
    os.utime(tmp_path / "victim", (0, 0))
    (folder / "b.20200101T000000Z.jsonl").symlink_to(tmp_path / "victim")
    store.append("a", b"{}\n", START + 30 * DAY)
    assert (tmp_path / "victim").exists()


def test_a_folder_that_others_can_look_into_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(Unsafe, match="mode 0755"):
        Store(folder, LIMITS).append("a", b"{}\n", START)
    observe(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("account", ["../../etc/passwd", "a/b", "..", "", "a\nb", "ä" * 200, "x.20200101T000000Z"])
def test_an_accounts_name_is_no_path(folder: Path, account: str) -> None:
    observe(folder, call=Call("observe", account=account))
    (name,) = names(folder)
    assert name.endswith(".jsonl") and "/" not in name and len(name) < 200 and name.count(".") == 1


def test_a_file_that_others_could_read_is_closed_to_them(folder: Path) -> None:
    observe(folder)
    (folder / "uid%3A1000.jsonl").chmod(0o644)
    observe(folder)
    assert stat.S_IMODE((folder / "uid%3A1000.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("log"), "folder: 'log' is no absolute path"),
        (Options("/x", leave_out=("prompt",)), r"leave_out\[0\]: 'prompt' is none of"),
        (Options("/x", rotate_bytes=0), "rotate_bytes: is not above 0"),
        (Options("/x", line_bytes=10), "line_bytes: at least 1024"),
        (Options("/x", patterns=("((",)), r"patterns\[0\]: '\(\(': missing \)"),
        (Options("/proc/nowhere/x"), "folder: "),
    ],
    ids=["relative", "field", "size", "line", "pattern", "folder"],
)
def test_options_that_cannot_work_are_refused(options: Options, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        transcript.check(options)


def test_a_folder_is_made_by_the_check(folder: Path) -> None:
    transcript.check(Options(str(folder)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
