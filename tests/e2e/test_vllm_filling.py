"""What the largest batch of a model takes is known from its first load on, and no later load runs it again."""

import json
import os
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ingled.core.need import SHORT
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import group_members, wait_until
from ingled.testing_model import write
from prometheus_client.parser import text_string_to_metric_families

from bench.loads import Limit
from bench.memory import Case, profile
from bench.memory import write as write_shape
from bench.shapes import Shape

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


def entry(daemon: DaemonFixture, name: str = "a") -> dict[str, Any]:
    """Return what the ledger's file has of a model."""
    file = daemon.folder / "state" / "ledger.json"
    entries: list[dict[str, Any]] = list(json.loads(file.read_text())["entries"].values()) if file.exists() else []
    return next((one for one in entries if one["model"] == name), {"most": 0, "taken": 0})


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
        found.clear()
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


WIDE = Case(Shape(64, 2, 2, 1, 32, 128, tied=True), 151_936, "BF16", 512, 64, sequences=64)
"""A small model that takes much while it chooses its tokens: more than all of it takes before."""


@pytest.mark.slow
def test_a_model_that_has_no_room_for_its_largest_batch_fails_at_its_load_and_others_live() -> None:
    """Its worker alone has a limit: the kernel may end a second process before it has counted what the first frees."""
    cache = {"VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT") or str(Path.home() / ".cache/vllm")}
    try:
        limit = Limit(f"ingle-test-{os.getpid()}")
        limit.set(None)
    except OSError as error:
        pytest.skip(f"no control group with a limit can be made here: {error}")
    with limit, tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        write_shape(WIDE, Path(folder))
        text = profile("a", WIDE, Path(folder)) + profile("b", replace(WIDE, context=496), Path(folder))
        with DaemonFixture(text, engine="vllm", environ=cache) as daemon, Wire(daemon.socket) as client:
            wait_until(lambda: client.call("plan", model="b")["need"]["source"] == "estimated")
            loaded(client)
            wait_until(lambda: (found := entry(daemon))["most"] > found["taken"] > 0)
            first, before = entry(daemon), client.call("plan", model="b")
            assert first["filled"] and first["most"] - first["taken"] > 100 << 20
            limit.set((first["taken"] + first["most"]) // 2)
            pids = [client.call("status")[one]["pid"] for one in ("daemon", "nursery")]
            with Wire(daemon.socket) as other:
                with limit.around(pids[1]):  # the worker is forked there, and stays
                    id = other.ask("hi", model="b", body={"max_tokens": 4}, stream=False)
                    wait_until(lambda: client.call("show", model="b")["pid"] is not None)
                    worker = client.call("show", model="b")["pid"]
                _, end = other.read(id)
            why = "the engine died at its largest batch: it was killed (the kernel ran out of memory)"
            assert (end["t"], end["code"]) == ("failed", "load_failed") and why in end["message"]
            wait_until(lambda: not group_members(worker))
            shown = client.call("show", model="b")
            assert (shown["state"], shown["why"], limit.killed) == ("failed", why, 1)
            assert sum("forked" in line for line in shown["story"]) == 1, "nobody asks for it: it is not tried again"

            after = client.call("plan", model="b")
            assert after["need"]["bytes"] == int(before["need"]["bytes"] * SHORT)
            assert "it ran out of memory with" in after["note"]
            shown = client.call("show", model="a")
            assert shown["state"] == "ready" and sum("forked" in line for line in shown["story"]) == 1
            loaded(client)
            assert [client.call("status")[one]["pid"] for one in ("daemon", "nursery")] == pids
