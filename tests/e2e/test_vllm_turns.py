"""Turns on the real engine, whichever way it is asked: who waits is held back, and a slow reader keeps no place."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_model import profile

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

FRONTS = ("core", "async")


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        models = (profile(Path(folder), front) + f'front = "{front}"\n' for front in FRONTS)
        config = "".join(models).replace("max_sequences = 64", "max_sequences = 1")
        with DaemonFixture(config, engine="vllm") as running:
            yield running


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, daemon: DaemonFixture) -> str:
    """The name of a ready model, which says how its engine is asked."""
    with Wire(daemon.socket) as client:
        client.call("load", model=request.param)
    return str(request.param)


def exactly(tokens: int) -> dict[str, object]:
    return {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}


def test_an_answer_that_is_done_keeps_no_place_though_nobody_reads_it(daemon: DaemonFixture, front: str) -> None:
    with Wire(daemon.socket) as slow, Wire(daemon.socket) as quick:
        unread = [slow.ask("hello", model=front, credit=0, body=exactly(20)) for _ in range(4)]
        for tokens in (1, 5, 9):
            end = quick.read(quick.ask("hello", model=front, body=exactly(tokens)))[1]
            assert (end["t"], end["usage"]["completion"]) == ("done", tokens)
        for id in unread:
            slow.send({"t": "credit", "id": id, "n": 100, "ack": 0})
            assert slow.read(id)[1]["usage"]["completion"] == 20
        assert quick.call("status")["requests"]["running"] == 0


def test_who_has_no_place_waits_outside_the_engine(daemon: DaemonFixture, front: str) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        long = client.ask("hello", model=front, credit=0, detach=True, body=exactly(6000))
        wait_until(lambda: other.call("status")["requests"]["running"] == 1)
        for _ in range(4):  # of which the engine has one ahead of time
            client.ask("hello", model=front, body=exactly(1))
        late = other.ask("hello", model=front, priority=-1, body=exactly(1))  # as root, it may go before others
        waiting = other.call("status")["requests"]["queued"]
        assert waiting >= 3, "the engine has one place, and one request ahead"
        other.send({"t": "cancel", "ref": 9, "id": long})
        assert other.read(late)[1]["t"] == "done"
        wait_until(lambda: other.call("status")["requests"]["queued"] == 0)
