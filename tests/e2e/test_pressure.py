"""Something else takes the memory of a GPU: a real daemon and worker, with a driver that says what a file says."""

import json
from pathlib import Path

from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

MB = 1_000_000
CONFIG = """
[daemon]
head_room = "1GB"
[models.a]
source = "/a"
memory = "1GB"
[models.a.echo]
gpu_file = "{file}"
sleep = "works"
memory = {{weights = 600000000, kv_cache = 300000000, process = 100000000}}
"""


def free(file: Path, size: int) -> None:
    """Say what is free; in one step, because it is read at any time."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"name": "played", "total": 10_000 * MB, "free": size}))
    fresh.rename(file)


def test_an_idle_model_gives_memory_back_when_something_else_needs_it(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    free(file, 8_000 * MB)
    with DaemonFixture(CONFIG.format(file=file)) as daemon, Wire(daemon.socket) as client:
        client.send({"t": "subscribe", "ref": 1, "topics": ["model", "daemon"], "credit": 200})
        client.until("accepted")
        text, end = client.read(client.ask("good morning", model="a"))
        assert (text, end["t"]) == ("good morning", "done")
        free(file, 700 * MB)
        seen = []
        while not seen or seen[-1].get("state") != "sleeping":
            seen.append(client.until("event")[-1]["value"])
        assert {"what": "pressure", "bytes": 300 * MB} in seen
        assert "device 'played' has 286 MiB less for others than they are to have: a give back 858 MiB" in (
            daemon.log.read_text()
        )
        free(file, 1_600 * MB)  # with what it has given back
        wait_until(lambda: client.call("plan", model="a")["device"]["budget_bytes"] < 1_000 * MB, 60)
        id = client.ask("good evening", model="a")
        progress = client.until("progress")[-1]
        assert (
            progress["phase"] == "queued"
            and "other programs hold memory of played: it needs 954 MiB" in (progress["what"])
        )
        assert client.call("plan", model="a")["decision"] == "wait"
        free(file, 8_000 * MB)
        text, end = client.read(id)
        assert (text, end["t"]) == ("good evening", "done"), "it comes back when there is room"


def test_who_waits_for_what_others_hold_is_refused_in_the_end(tmp_path: Path) -> None:
    gpu = '{name = "played", total = 10000000000, free = 1500000000, driver = "1"}'
    config = '[daemon]\nhead_room = "1GB"\nmemory_wait = 0.5\n[models.a]\nsource = "/a"\nmemory = "1GB"\n'
    with DaemonFixture(f"{config}echo = {{gpu = {gpu}}}\n") as daemon, Wire(daemon.socket) as client:
        wait_until(lambda: client.call("plan", model="a")["device"]["name"] == "played", 60)
        _, end = client.read(client.ask("good evening", model="a"))
        assert (end["code"], end["fault"]) == ("does_not_fit", "model")
        assert "has waited for 0.5 s: other programs hold memory of played" in end["message"]
