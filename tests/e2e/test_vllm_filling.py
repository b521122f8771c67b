"""What the largest batch of a model takes is known from its first load on, and no later load runs it again."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_model import write

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PROFILE = """
[models.a]
source = "{source}"
context = 512
dtype = "float32"
max_sequences = 8
kv_cache = "64MiB"
"""


def entry(daemon: DaemonFixture) -> dict[str, Any]:
    """Return what the ledger's file has of its one model."""
    file = daemon.folder / "state" / "ledger.json"
    entries: list[dict[str, Any]] = list(json.loads(file.read_text())["entries"].values()) if file.exists() else []
    return entries[0] if entries else {"most": 0, "taken": 0}


def loaded(client: Wire) -> list[str]:
    """Load the model; returns what it was at meanwhile."""
    id, told = client.ask("hi", model="a", body={"max_tokens": 4, "ignore_eos": True}, stream=False), []
    while (message := client.receive())["t"] != "done":
        told.append(str(message.get("what")))
    assert message["id"] == id and message["usage"]["completion"] == 4
    return told


def test_a_first_load_runs_the_largest_batch_and_a_second_one_does_not() -> None:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        source = write(Path(folder))
        with DaemonFixture(PROFILE.format(source=source), engine="vllm") as daemon, Wire(daemon.socket) as client:
            assert "a: filling" in loaded(client)
            wait_until(lambda: (found := entry(daemon))["most"] > found["taken"])
            first = entry(daemon)
            assert (first["filled"], first["full"], first["loads"]) == (True, False, 1)
            need = client.call("plan", model="a")["need"]
            assert need["source"] == "measured" and need["bytes"] >= first["most"]
            client.call("unload", model="a")
            assert "a: filling" not in loaded(client)
