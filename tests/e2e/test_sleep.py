"""Models that sleep: a real daemon and its workers, whose engine says of its memory what it is told to."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import lives

CONFIG = """
[daemon]
memory = "100MB"
[models.a]
source = "/a"
memory = "40MB"
default = true
echo = {sleep = "works", sleep_ms = 50, memory = {weights = 20000000, kv_cache = 10000000, process = 2000000}}
[models.b]
source = "/b"
memory = "40MB"
echo = {sleep = "works", memory = {weights = 20000000, kv_cache = 10000000, process = 2000000}}
[models.c]
source = "/c"
memory = "40MB"
[models.keeps]
source = "/keeps"
memory = "10MB"
echo = {sleep = "keeps", memory = {weights = 5000000, kv_cache = 5000000}}
[models.changes]
source = "/changes"
memory = "10MB"
echo = {sleep = "changes", memory = {weights = 5000000, kv_cache = 5000000}}
"""


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(config=CONFIG) as daemon:
        yield daemon


def models(client: Wire) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in client.call("models")["models"]}


def say(client: Wire, model: str) -> None:
    text, end = client.read(client.ask("good morning", model=model))
    assert (text, end["t"]) == ("good morning", "done"), end


def in_state(client: Wire, name: str, state: str) -> None:
    """Return when a model is in this state."""
    client.send({"t": "subscribe", "ref": 700, "topics": ["model"]})
    subscription = client.until("accepted")[-1]["id"]
    while models(client)[name]["state"] != state:
        event = client.until("event")[-1]
        client.send({"t": "credit", "id": event["id"], "n": 1, "ack": 0})
    client.send({"t": "cancel", "ref": 701, "id": subscription})
    client.until("result")


def test_the_command_puts_a_model_to_sleep_and_whoever_asks_wakes_it(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        say(client, "a")
        before = models(client)["a"]
        assert (before["no_sleep"], before["sleep_level"]) == (None, None)
        assert daemon.cli("sleep", "a", "--level", "1").stdout == "a: sleeping at level 1\n"
        asleep = models(client)["a"]
        assert (asleep["state"], asleep["sleep_level"], asleep["taken_bytes"]) == ("sleeping", 1, 2000000)
        (line,) = [line for line in daemon.cli("ps").stdout.splitlines() if line.startswith("a ")]
        assert "sleeping 1" in line
        id = client.ask("good morning", model="a")
        seen = client.until("done", "failed")
        told = [(one["phase"], one["what"]) for one in seen if one["t"] == "progress" and one["id"] == id]
        assert ("waking", "a") in told and seen[-1]["t"] == "done"
        assert models(client)["a"]["pid"] == before["pid"], "the same worker"
        deep = daemon.json("sleep", "a")
        assert deep == {"model": "a", "state": "sleeping", "level": 2}, "how much the machine could keep is not known"
        assert daemon.cli("wake", "a").stdout == "a: ready\n"
        assert daemon.cli("wake", "a").stdout == "a: ready\n"
        wake_s = next(iter(json.loads((daemon.folder / "state/ledger.json").read_text())["entries"].values()))["wake_s"]
        assert set(wake_s) == {"1", "2"} and all(seconds >= 0.05 for seconds in wake_s.values())


def test_what_is_no_model_that_can_sleep_is_told_so(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        say(client, "c")
    failed = daemon.cli("sleep", "c")
    assert failed.returncode != 0
    assert "model 'c' cannot sleep: its engine has no sleep" in failed.stderr
    assert "`ingle unload c` gives all of its memory back" in failed.stderr
    assert "model 'a' is cold: only a model that is ready can fall asleep" in daemon.cli("sleep", "a").stderr
    assert "model 'a' is cold: there is nothing to wake" in daemon.cli("wake", "a").stderr
    assert daemon.cli("sleep", "a", "--level", "3").returncode == 2


def test_a_model_that_makes_room_sleeps(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        for name in ("b", "a", "c"):
            say(client, name)
        found = models(client)
        states = {name: found[name]["state"] for name in "abc"}
        assert sorted(states.values()) == ["ready", "ready", "sleeping"] and states["c"] == "ready"
        (sleeper,) = [name for name in "ab" if states[name] == "sleeping"]
        say(client, sleeper)
        assert models(client)[sleeper]["pid"] == found[sleeper]["pid"]


def test_a_new_daemon_finds_it_asleep(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        say(client, "a")
        client.call("sleep", model="a")
        before = models(client)["a"]
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    with Wire(daemon.socket) as client:
        after = models(client)["a"]
        assert (after["state"], after["sleep_level"], after["pid"]) == ("sleeping", 2, before["pid"])
        say(client, "a")


def test_what_gives_nothing_back_is_stopped_and_remembered(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        say(client, "keeps")
        failed = daemon.cli("sleep", "keeps")
        assert "asleep at level 2 it gave back 0 MiB of 10 MiB" in failed.stderr
        assert failed.returncode != 0
        in_state(client, "keeps", "cold")
        say(client, "keeps")
        assert "gave back 0 MiB" in daemon.cli("sleep", "keeps").stderr
        assert models(client)["keeps"]["state"] == "ready", "it is not tried again"
    daemon.stop()
    daemon.start()
    with Wire(daemon.socket) as client:
        say(client, "keeps")
        assert "gave back 0 MiB" in models(client)["keeps"]["no_sleep"], "also by the next daemon"


def test_what_wakes_as_another_one_is_loaded_anew_and_nobody_hears_it(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        say(client, "changes")
        pid = models(client)["changes"]["pid"]
        client.call("sleep", model="changes")
        say(client, "changes")
        after = models(client)["changes"]
        assert after["pid"] != pid and not lives(pid)
        assert "answered the same prompt differently" in after["no_sleep"]
