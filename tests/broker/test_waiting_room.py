"""Requests that no worker holds, in a file that outlives the daemon."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from ingled.broker import waiting_room
from ingled.broker.waiting_room import LIVES, WaitingRoom, Waits
from ingled.link import Held
from msgspec import Raw


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    WaitingRoom(tmp_path).close(remove=True)


def one(id: str, size: int = 10) -> Waits:
    body = Raw(msgspec.msgpack.encode("x" * size))
    return Waits("uid:7", Held(id, "chat", body, True, b"", 0, [], waits=True), [], filtering=False)


def ids(room: WaitingRoom) -> list[str]:
    return [found.held.id for found in room.take_over()]


def test_who_has_entered_and_not_left_is_there_for_the_next(runtime: Path) -> None:
    first = WaitingRoom(runtime)
    for id in ("a", "b", "c", "d"):
        first.enter(one(id))
    first.leave("b")
    first.leave("never here")
    first.enter(msgspec.structs.replace(one("a"), text=[(0, 3, b"abc")]))
    first.close(remove=False)
    second = WaitingRoom(runtime)
    found = second.take_over()
    assert [got.held.id for got in found] == ["a", "c", "d"]
    assert (found[0].text, found[0].uid, found[0].lives) == ([(0, 3, b"abc")], 7, 0)
    for got in found:
        second.leave(got.held.id)
    assert second.path.stat().st_size == 0
    second.close(remove=False)


def test_who_was_taken_over_by_a_daemon_that_died_at_once_is_there_for_the_next(runtime: Path) -> None:
    room = WaitingRoom(runtime)
    for id in ("a", "b"):
        room.enter(one(id))
    for lives in range(LIVES):
        room.close(remove=False)
        room = WaitingRoom(runtime)
        assert [(found.held.id, found.lives) for found in room.take_over()] == [("a", lives), ("b", lives)]
    room.close(remove=False)


def test_a_record_that_was_cut_off_by_a_death_is_left_out(runtime: Path) -> None:
    room = WaitingRoom(runtime)
    room.enter(one("a"))
    whole = room.path.stat().st_size
    room.enter(one("b"))
    both = room.path.read_bytes()
    room.close(remove=False)
    for size in range(whole, len(both)):
        room.path.write_bytes(both[:size])
        next = WaitingRoom(runtime)
        next.enter(one("c"))
        assert ids(next) == ["a", "c"]
        next.close(remove=False)


def test_the_file_is_bounded_and_empty_when_nobody_waits(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "MOST_BYTES", 5000)
    monkeypatch.setattr(waiting_room, "FILE_BYTES", 10_000)
    room = WaitingRoom(runtime)
    room.enter(one("stays", 2000))
    for number in range(100):
        for id in (f"n{number}", f"too much {number}"):
            room.enter(one(id, 2000))
        assert room.path.stat().st_size < 15_000
        room.leave(f"n{number}")
    next = WaitingRoom(runtime)
    assert ids(next) == ["stays"]
    next.close(remove=False)
    room.leave("stays")
    assert room.path.stat().st_size == 0
    room.close(remove=False)


def test_a_daemon_that_dies_as_it_writes_the_file_anew_loses_nobody(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Death(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Death

    monkeypatch.setattr(waiting_room, "FILE_BYTES", 10_000)
    room = WaitingRoom(runtime)
    before = set(room.path.parent.iterdir())
    for id in ("a", "b"):
        room.enter(one(id, 6000))
    for moment in ("fsync", "close"):  # the file before it is in its place, and after
        with monkeypatch.context() as patch:
            patch.setattr(waiting_room.os, moment, dies)
            with pytest.raises(Death):
                room.enter(one("c", 10))
        room = WaitingRoom(runtime)
        assert ids(room) == ["a", "b"]
    assert set(room.path.parent.iterdir()) == before
    monkeypatch.setattr(waiting_room, "_open", lambda path: os.open("/nowhere/to/be/found", os.O_RDWR))
    room.enter(one("c", 10))
    monkeypatch.undo()
    room.close(remove=False)
    assert ids(WaitingRoom(runtime)) == ["a", "b", "c"], "where it cannot be written anew, it goes on"


def test_who_has_outlived_several_daemons_may_be_what_ends_them(runtime: Path) -> None:
    room = WaitingRoom(runtime)
    room.enter(one("a"))
    for _ in range(LIVES):
        room.close(remove=False)
        room = WaitingRoom(runtime)
        [found] = room.take_over()
        room.enter(found)
    room.close(remove=False)
    room = WaitingRoom(runtime)
    assert ids(room) == []
    room.close(remove=False)


@pytest.mark.parametrize("kind", ["link", "open to others", "folder"])
def test_what_is_not_our_own_file_is_not_used(
    tmp_path: Path, kind: str, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    first = WaitingRoom(tmp_path)
    path = first.path
    first.close(remove=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    elsewhere.write_bytes(b"theirs")
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        path.chmod(0o644)
    room = WaitingRoom(tmp_path)
    room.enter(one("a"))
    room.leave("a")
    assert ids(room) == []
    room.close(remove=False)
    assert elsewhere.read_bytes() == b"theirs"
    assert "requests that wait are lost if the daemon dies" in caplog.text
    if kind == "folder":
        path.rmdir()
    else:
        path.unlink()


def test_records_of_another_release_are_left_out(runtime: Path) -> None:
    room = WaitingRoom(runtime)
    room.enter(one("a"))
    foreign = msgspec.msgpack.encode({"other": 1})
    room.close(remove=False)
    with room.path.open("ab") as file:
        file.write(len(foreign).to_bytes(4, "big") + foreign)
    room = WaitingRoom(runtime)
    assert ids(room) == ["a"]
    room.close(remove=False)
