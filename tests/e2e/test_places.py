"""Requests that wait for a place on a ready model: held by its worker, given out in turn, and never lost."""

import os
import signal
from collections.abc import Iterable, Iterator

import pytest
from ingled.testing import DaemonFixture, Wire

CONFIG = """
[daemon]
adopt_grace = 60.0
[models.two]
source = "/x"
default = true
preload = true
max_sequences = 2
[models.two.echo]
delay_ms = 20
"""
AT_ONCE = 3
"""Two run, and one is with the engine ahead of time."""


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(config=CONFIG) as daemon:
        with Wire(daemon.socket) as client:
            client.read(client.ask("load it"))
        yield daemon


def states(client: Wire) -> dict[str, str]:
    return {one["id"]: one["state"] for one in client.call("requests")["requests"]}


def cancel(client: Wire, ids: Iterable[str]) -> None:
    for id in ids:
        client.send({"t": "cancel", "ref": 99, "id": id})
        client.until("result")


def test_who_finds_no_place_is_told_how_many_are_before_and_gets_one_in_turn(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        ids = [client.ask("w " * 2000, priority=40, credit=0) for _ in range(6)]
        assert list(states(client).values()) == ["running"] * AT_ONCE + ["queued"] * 3
        quick = client.ask("quick")
        assert states(client)[quick] == "queued"
        assert client.call("models")["models"][0]["waiting"] == 4
        cancel(client, ids[:1])
        assert client.read(quick)[1]["t"] == "done"
        assert "queued" in states(client).values(), "those that came before it wait still"
        cancel(client, ids[1:])
        assert states(client) == {}


def test_positions_count_those_before(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        for _ in range(AT_ONCE):
            client.ask("w " * 2000, credit=0)
        for position in range(3):
            id = client.ask("w " * 2000, credit=0)
            told = client.until("progress")[-1]
            assert (told["id"], told["phase"], told["position"]) == (id, "queued", position)
            assert told["what"].endswith("it runs as many as it can")


def test_readers_that_have_stopped_keep_no_place(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        ids = [client.ask(f"a few words {i}", credit=0) for i in range(3 * AT_ONCE)]
        assert other.read(other.ask("quick"))[1]["t"] == "done"
        assert set(states(client)) == set(ids)
        daemon.kill()
        daemon.start()
    with Wire(daemon.socket) as client:
        assert client.read(client.ask("quick"))[1]["t"] == "done", "the next daemon knows it too"
        cancel(client, ids)  # their readers do not come back, and a daemon that stops would wait for them


def test_a_request_that_waits_for_a_place_outlives_the_daemon(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        first = [client.ask("w " * 2000, detach=True, credit=0) for _ in range(AT_ONCE)]
        ids = [client.ask(f"{'w ' * 40}{i}", detach=True, credit=0) for i in range(5)]
        assert [states(client)[id] for id in ids] == ["queued"] * 5
        cancel(client, ids[-1:])
    daemon.kill()
    daemon.start()
    with Wire(daemon.socket) as client:
        assert set(states(client)) == {*first, *ids[:-1]}
        cancel(client, first)
        for i, id in enumerate(ids[:-1]):
            client.send({"t": "attach", "ref": 7, "id": id, "offset": 0})
            text, end = client.read(id)
            assert (text, end["t"]) == (f"{'w ' * 40}{i}", "done")


def test_a_request_that_waits_for_a_place_outlives_the_worker(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        ids = [client.ask(f"{'w ' * 40}{i}", stream=False) for i in range(6)]
        os.kill(client.call("models")["models"][0]["pid"], signal.SIGKILL)
        ends = {}
        while len(ends) < len(ids):
            message = client.receive()
            if message["t"] in ("done", "failed"):
                ends[message["id"]] = message
        assert [ends[id]["result"]["text"] for id in ids] == [f"{'w ' * 40}{i}" for i in range(6)]
