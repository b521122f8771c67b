"""Requests that wait outlive the daemon: for their model, for a hook, or for who reads what they were answered."""

import os
import signal
from pathlib import Path

import pytest
from ingle import Client
from ingled.broker.waiting_room import WaitingRoom
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

from tests.e2e.crashes import CONFIG, end_broker, model_of, read_on, states, words

LATE = """
[daemon]
adopt_grace = 60
[models.late]
source = "builtin:ember"
echo = {load_ms = 4000, delay_ms = 1}
"""


@pytest.mark.parametrize("how", ["kill", "restart", "replace"])
def test_requests_that_wait_for_a_load_outlive_the_daemon(how: str) -> None:
    with DaemonFixture(LATE) as daemon, Client(str(daemon.socket), timeout=60) as client:
        stream = client.chat("one two", stream=True)
        reader = Wire(daemon.socket)
        ids = [reader.ask("three four", detach=detach) for detach in (True, False)]
        wait_until(lambda: len(found := states(reader)) == 3 and set(found.values()) == {"queued"})
        end_broker(daemon, how)
        for id in ids:
            text, end = read_on(daemon, id)
            assert (text, end["t"]) == ("three four", "done")
        assert "".join(delta.text for delta in stream) == "one two"
        with Wire(daemon.socket) as other:
            assert other.call("status")["requests"]["done_total"] == 3, "none was asked twice"
        reader.close()


def test_a_request_whose_worker_died_outlives_the_daemon_that_dies_before_the_next_is_there() -> None:
    text = words(600)
    with DaemonFixture(LATE) as daemon:
        client = Wire(daemon.socket)
        ids = [client.ask(text, credit=3, detach=detach, body={"max_tokens": 600}) for detach in (True, False)]
        with Wire(daemon.socket) as other:
            wait_until(lambda: all(one["offset"] > 10 for one in other.call("requests")["requests"]))
            os.kill(model_of(other)["pid"], signal.SIGKILL)
            wait_until(lambda: set(states(other).values()) == {"queued"})
            assert model_of(other)["state"] != "ready"
        daemon.kill()
        daemon.start()
        for id in ids:
            got, end = read_on(daemon, id)
            assert (got, end["t"], end["resumed"]) == (text, "done", 1)
        client.close()


@pytest.mark.parametrize("on_error", ["skip", "refuse"])
def test_requests_that_are_with_a_client_s_hook_go_on_without_it_or_end_as_it_says(on_error: str) -> None:
    with DaemonFixture(CONFIG) as daemon:
        provider, client = Wire(daemon.socket), Wire(daemon.socket)
        offer = {"t": "hook_offer", "ref": 5, "name": "mine", "points": ["prompt"], "deadline_ms": 60_000}
        provider.send(offer | {"on_error": on_error})
        provider.until("result")
        id = client.ask("one two", detach=True)
        provider.until("hook_call")
        daemon.kill()
        daemon.start()
        text, end = read_on(daemon, id)
        if on_error == "skip":
            assert (text, end["t"]) == ("one two", "done")
        else:
            assert (text, end["code"], end["fault"]) == ("", "hook_failed", "hook:mine")
        provider.close()
        client.close()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("detach", [True, False])
def test_what_a_filter_has_answered_outlives_the_daemon_to_the_last_character(detach: bool, stream: bool) -> None:
    text = words(20_000)  # several chunks, of which a reader with credit for one takes one
    with DaemonFixture(CONFIG) as daemon:
        room = WaitingRoom(Path(f"{daemon.socket}.d"))
        provider, client = Wire(daemon.socket), Wire(daemon.socket)
        offer = {"t": "hook_offer", "ref": 5, "name": "mine", "points": ["prompt"], "deadline_ms": 60_000}
        provider.send(offer | {"on_error": "refuse"})
        provider.until("result")
        id = client.ask("one two", detach=detach, stream=stream, credit=1)
        call = provider.until("hook_call")[-1]
        results = [{"hook": "mine", "verdict": "answer"}]
        provider.send({"t": "hook_reply", "call": call["call"], "results": results, "value": {"text": text}})
        with Wire(daemon.socket) as other:
            wait_until(lambda: states(other).get(id) != "filtering")
        daemon.kill()
        daemon.start()
        if detach or stream:  # else its reader had all of it, in one message
            got, end = read_on(daemon, id)
            assert (got if stream else end["result"]["text"], end["t"]) == (text, "done")
            assert [(hook["name"], hook["verdict"]) for hook in end["hooks"]] == [("mine", "answer")]
        if not detach:
            wait_until(lambda: room.path.read_bytes() == b"")
        provider.close()
        client.close()
        room.close(remove=False)


def test_what_has_waited_leaves_no_trace() -> None:
    with DaemonFixture(LATE) as daemon:
        leaves_no_trace(daemon)


def leaves_no_trace(daemon: DaemonFixture) -> None:
    """Have a request wait for its model, and look at the file that holds it."""
    room = WaitingRoom(Path(f"{daemon.socket}.d"))
    canary = "canary-in-the-mine"
    with Wire(daemon.socket) as client:
        id = client.ask(canary)
        assert canary.encode() in room.path.read_bytes(), "it waits for its model"
        assert room.path.stat().st_mode & 0o777 == 0o600
        client.read(id)
        assert room.path.read_bytes() == b""
    daemon.stop()
    assert not room.path.exists()
    room.close(remove=False)
