"""Three models where there is room for two: a real daemon, its workers, and the command."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import lives

CONFIG = """
[daemon]
memory = "100MB"
patience = 1
[models.a]
source = "/a"
memory = "40MB"
default = true
echo = {load_ms = 100, delay_ms = 1}
[models.b]
source = "/b"
memory = "40MB"
echo = {load_ms = 100}
[models.c]
source = "/c"
memory = "40MB"
echo = {load_ms = 100}
[models.big]
source = "/big"
memory = "1GB"
[models.brief]
source = "/brief"
memory = "10MB"
ttl = 0.5
"""


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(config=CONFIG) as daemon:
        yield daemon


def states(client: Wire) -> dict[str, str]:
    return {model["name"]: model["state"] for model in client.call("models")["models"]}


def say(client: Wire, text: str = "hi", **fields: object) -> dict[str, object]:
    text, end = client.read(client.ask(text, **fields))
    return end


def test_a_third_model_puts_the_idle_one_out_and_both_that_stay_stream_at_once(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        assert say(client, model="b")["t"] == "done"
        assert say(client, model="a")["t"] == "done"
        pids = {model["name"]: model["pid"] for model in client.call("models")["models"]}
        long = client.ask("w " * 2000, model="a")
        ask = other.ask("hi", model="c")
        seen = other.until("done", "failed")
        assert seen[-1]["t"] == "done"
        told = [message["what"] for message in seen if message["t"] == "progress" and message["id"] == ask]
        assert "c: b makes room" in told
        now = states(other)
        assert (now["a"], now["b"], now["c"]) == ("ready", "cold", "ready")
        assert not lives(pids["b"]), "its memory is given back"
        assert client.read(long)[1]["t"] == "done"


def test_who_waits_for_a_busy_model_gets_its_turn(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        for name in ("a", "b"):
            client.call("load", model=name)
        client.call("pin", model="b")
        # A model that is asked all the time would never be idle.
        busy = {client.ask("w " * 3000, model="a", stream=False) for _ in range(2)}
        waiting = other.ask("hi", model="c")
        while True:
            message = other.receive()
            if message["t"] == "progress" and "is busy" in str(message.get("what")):
                break
        assert {client.until("done", "failed")[-1]["id"] for _ in busy} == busy
        assert other.read(waiting)[1]["t"] == "done"
        assert states(other)["b"] == "ready", "pinned"


def test_what_does_not_fit_is_refused_and_nobody_goes_for_it(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.call("load", model="a")
        end = say(client, model="big")
        assert (end["t"], end["code"]) == ("failed", "does_not_fit")
        assert "needs 954 MiB, and memory has 95 MiB for models" in str(end["message"])
        assert states(client)["a"] == "ready"


def test_a_model_expires_and_is_loaded_again(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as hears:
        hears.send({"t": "subscribe", "ref": 1, "topics": ["model"]})
        hears.until("accepted")
        assert say(client, model="brief")["t"] == "done"
        seen = []
        while not seen or seen[-1] != "cold":
            event = hears.until("event")[-1]
            hears.send({"t": "credit", "id": event["id"], "n": 1, "ack": 0})
            seen.append(event["value"]["state"])
        assert seen == ["loading", "ready", "stopping", "cold"]
        assert say(client, model="brief")["t"] == "done"


def ingle(daemon: DaemonFixture, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ingle", *argv, "--socket", str(daemon.socket)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_pins_wants_yields_and_tells(daemon: DaemonFixture) -> None:
    assert ingle(daemon, "load", "b", "--progress").stderr.count("loading b") >= 1
    assert ingle(daemon, "pin", "b").stdout == "b: pinned, ready\n"
    assert ingle(daemon, "load", "a").stdout == "a: ready\n"
    lines = {line.split()[0]: line for line in ingle(daemon, "ps").stdout.splitlines()}
    assert lines["b"].endswith("pinned")
    assert ingle(daemon, "want", "c").stdout.startswith("c: cold, it is not known")
    assert ingle(daemon, "load", "c").stdout == "c: ready\n"
    assert ingle(daemon, "yield").stdout == "c: gives its memory back\n1 model, about 38 MiB\n"
    failed = ingle(daemon, "load", "big")
    assert (failed.returncode, "does_not_fit" in failed.stderr or "needs 954 MiB" in failed.stderr) == (4, True)
