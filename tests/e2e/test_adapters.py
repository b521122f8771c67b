"""Adapters are models of their own in the worker of their base: what is seen of that over the socket."""

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from ingle import Client, DaemonFailed
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

CONFIG = """
[daemon]
memory = "400MiB"
[models.base]
source = "/a"
memory = "300MiB"
default = true
echo = {{delay_ms = 2}}
[models.loud]
base = "base"
adapter = "{folder}"
license = "mit"
sampling = {{max_tokens = 2}}
[models.lost]
base = "base"
adapter = "{folder}/nowhere"
[models.other]
source = "/b"
memory = "300MiB"
[[rules]]
accounts = ["*"]
may = ["load"]
"""


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with tempfile.TemporaryDirectory(prefix="ingle-") as folder:
        with DaemonFixture(CONFIG.format(folder=folder)) as running:
            yield running


@pytest.fixture
def client(daemon: DaemonFixture) -> Iterator[Client]:
    with Client(str(daemon.socket)) as client:
        yield client


def states(client: Client) -> dict[str, str]:
    return {model.name: model.state for model in client.models()}


def test_an_adapter_answers_in_its_own_name_from_its_bases_worker(client: Client) -> None:
    answer = client.chat("one two three", model="loud")
    assert (answer.text, answer.finish) == ("ONE TWO", "length"), "its own sampling"
    assert (answer.model.name, answer.model.license) == ("loud", "mit")
    assert client.chat("one two three").text == "one two three"
    models = {model.name: model for model in client.models()}
    loud, base = models["loud"], models["base"]
    assert (loud.state, loud.base, loud.pid, loud.source) == ("ready", "base", base.pid, loud.source)
    assert (base.base, loud.need_bytes) == (None, None)
    assert client.show("loud").story


def test_one_that_is_not_there_says_so_and_harms_nobody(daemon: DaemonFixture, client: Client) -> None:
    with pytest.raises(DaemonFailed, match="nowhere holds no adapter: there is no such folder") as failed:
        client.chat("hi", model="lost")
    assert failed.value.code == "load_failed"
    assert client.chat("hi").text == "hi"
    assert states(client) == {"base": "ready", "loud": "cold", "lost": "failed", "other": "cold"}
    assert "nowhere" in daemon.cli("ps").stdout


def test_it_is_unloaded_by_itself_or_with_its_base(daemon: DaemonFixture, client: Client) -> None:
    assert client.load("loud") == "ready"
    pid = client.show("base").pid
    assert client.unload("loud") in ("stopping", "cold")
    wait_until(lambda: states(client)["loud"] == "cold")
    assert states(client)["base"] == "ready"
    assert client.load("loud") == "ready" and client.show("base").pid == pid
    client.unload("base")
    wait_until(lambda: states(client)["base"] == "cold")
    assert states(client)["loud"] == "cold"


def test_its_base_goes_for_others_only_when_it_is_idle(daemon: DaemonFixture, client: Client) -> None:
    with Wire(daemon.socket) as reader:
        id = reader.ask("w", model="loud", credit=0, body={"max_tokens": 200, "ignore_eos": True})
        wait_until(lambda: states(client)["loud"] == "ready")
        client.load("other", wait=False)
        waits = "other: model 'base' is busy"
        wait_until(lambda: client.show("other").waits == waits)
        reader.send({"t": "credit", "id": id, "n": 250, "ack": 0})
        text, end = reader.read(id)
        assert (len(text.split()), end["t"]) == (200, "done")
        wait_until(lambda: states(client)["other"] == "ready")
    assert states(client) == {"base": "cold", "loud": "cold", "lost": "cold", "other": "ready"}


def test_its_answers_outlive_the_death_of_the_worker_and_of_the_daemon(daemon: DaemonFixture, client: Client) -> None:
    words = [f"w{number}" for number in range(300)]
    with client.chat(" ".join(words), model="loud", max_tokens=300, stream=True) as story:
        assert next(story)
        os.kill(client.show("loud").pid or 0, signal.SIGKILL)
        assert story.read().text == " ".join(words).upper()
        assert story.answer.resumed == 1
    with client.chat(" ".join(words), model="loud", max_tokens=300, stream=True, grace_ms=60_000) as story:
        assert next(story)
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
        assert story.read().text == " ".join(words).upper()
        assert story.answer.resumed == 0, "the worker lives on, and its adapter in it"
    assert states(client)["loud"] == "ready"


def test_the_command_shows_it_and_plans_it(daemon: DaemonFixture, client: Client) -> None:
    assert "loud (on base)" in daemon.cli("models").stdout
    wait_until(lambda: daemon.json("plan", "loud")["decision"] != "unknown")  # until the engine has been asked
    plan = daemon.json("plan", "loud")
    assert (plan["model"], plan["base"], plan["decision"], plan["fits"]) == ("loud", "base", "fits", True)
    assert plan["need"]["bytes"] == 300 << 20, "what its base takes, and nothing beside it"
    client.load("other")
    assert daemon.json("plan", "loud")["evicts"] == ["other"]
    client.load("loud")
    assert daemon.json("plan", "loud")["decision"] == "resident"
    assert "loud (on base)" in daemon.cli("ps").stdout
    refused = daemon.cli("pin", "loud")
    assert refused.returncode and "`ingle pin base`" in refused.stderr
