"""What the largest batch of a model takes is known from its first load on, and no later load runs it again."""

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_model import write
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PROFILE = """
[daemon]
metrics = "{folder}/metrics.sock"
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


def loaded(client: Wire) -> tuple[list[str], dict[str, Any]]:
    """Load the model by a request; returns what it was at meanwhile, and what that request took."""
    id, told = client.ask("hi", model="a", body={"max_tokens": 4, "ignore_eos": True}, stream=False), []
    while (message := client.receive())["t"] != "done":
        told.append(str(message.get("what")))
    assert message["id"] == id and message["usage"]["completion"] == 4
    return told, dict(message["usage"])


def counted(place: Path) -> dict[str, float]:
    """Return vLLM's own counters of what was done, once they are told."""
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total")
    found: dict[str, float] = {}

    def told() -> bool:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(30)
            one.connect(str(place))
            one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            text = b"".join(iter(lambda: one.recv(65536), b"")).partition(b"\r\n\r\n")[2].decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in names:
                    found[sample.name] = found.get(sample.name, 0) + sample.value
        return len(found) == len(names)

    wait_until(told)
    return found


def test_a_first_load_runs_the_largest_batch_and_a_second_one_does_not() -> None:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        source = write(Path(folder) / "a")
        text = PROFILE.format(source=source, folder=folder)
        with DaemonFixture(text, engine="vllm") as daemon, Wire(daemon.socket) as client:
            what, usage = loaded(client)
            assert "a: trying its largest batch" in what
            wait_until(lambda: (found := entry(daemon))["most"] > found["taken"])
            first = entry(daemon)
            assert (first["filled"], first["full"], first["loads"]) == (True, False, 1)
            need = client.call("plan", model="a")["need"]
            assert need["source"] == "measured" and need["bytes"] >= first["most"]

            shown = client.call("show", model="a")
            assert shown["most_bytes"] >= first["most"] and shown["most_bytes"] >= shown["taken_bytes"] > 0
            wait_until(lambda: client.call("show", model="a")["tokens_total"] > 0)
            shown = client.call("show", model="a")
            assert (shown["prompt_tokens"], shown["tokens_total"]) == (usage["prompt"], usage["completion"])
            success = {"vllm:request_success_total": 1}
            tokens = {"vllm:prompt_tokens_total": usage["prompt"], "vllm:generation_tokens_total": 4}
            assert counted(Path(folder) / "metrics.sock") == success | tokens, "of ours, vLLM counts nothing either"

            client.call("unload", model="a")
            assert "a: trying its largest batch" not in loaded(client)[0]
