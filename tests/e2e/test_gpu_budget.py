"""The budget of a GPU as the broker has it from the engine, which the echo engine pretends: no GPU is needed."""

import json
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

GIB = 1 << 30
HEAD_ROOM = 4 * GIB
"""One part in 20 of the 80 GiB."""


def model(name: str, free: int, more: str = "", echo: str = "") -> str:
    gpu = f'gpu = {{name = "Pretended", total = {80 * GIB}, free = {free * GIB}, driver = "1"}}'
    return f'[models.{name}]\nsource = "/{name}"\n{more}\necho = {{memory = {{weights = {GIB}}}, {gpu}{echo}}}\n'


def device(client: Wire, name: str = "a") -> dict[str, object]:
    return dict(client.call("plan", model=name)["device"])


@pytest.mark.parametrize(
    "daemon, budget",
    [
        pytest.param("", 70 * GIB - HEAD_ROOM, id="what is free, but for head-room"),
        pytest.param('memory = "20GiB"', 20 * GIB, id="what is configured"),
        pytest.param('head_room = "30GiB"', 40 * GIB, id="with another head-room"),
    ],
)
def test_models_on_a_gpu_share_its_memory(daemon: str, budget: int) -> None:
    with DaemonFixture(f"[daemon]\n{daemon}\n" + model("a", 70)) as running, Wire(running.socket) as client:
        wait_until(lambda: device(client)["name"] == "Pretended")
        assert device(client) == {"name": "Pretended", "budget_bytes": budget, "taken_bytes": 0}


def test_what_is_free_while_a_model_is_loaded_is_not_the_budget() -> None:
    """Half of a model that is on its way is neither free nor taken: the budget would shrink by it, and stay so."""
    config = model("a", 70, "preload = true", ", load_ms = 600000") + model("b", 30)
    with DaemonFixture(config) as running, Wire(running.socket) as client:
        wait_until(lambda: client.call("show", model="a")["state"] == "loading")
        wait_until(lambda: device(client)["name"] == "Pretended")
        wait_until(lambda: client.call("plan", model="b")["need"]["source"] == "estimated")
        assert device(client)["budget_bytes"] == 70 * GIB - HEAD_ROOM


def test_what_a_model_has_beyond_what_its_profile_says_is_not_given_to_another_one(tmp_path: Path) -> None:
    gpu = {"name": "Pretended", "total": 80 * GIB, "free": 30 * GIB, "driver": "1"}
    (tmp_path / "gpu").write_text(json.dumps(gpu))
    echo = f'{{sleep = "works", memory = {{weights = {20 * GIB}}}, gpu_file = "{tmp_path}/gpu"}}'
    config = f'[models.a]\nsource = "/a"\nmemory = "5GiB"\necho = {echo}\n' + model("b", 30)
    with DaemonFixture(config) as running, Wire(running.socket) as client:
        wait_until(lambda: device(client, "b")["budget_bytes"] == 30 * GIB - HEAD_ROOM)
        client.call("load", model="a")
        assert client.call("show", model="a")["taken_bytes"] == 20 * GIB
        wait_until(lambda: device(client, "b")["budget_bytes"] != 30 * GIB - HEAD_ROOM)
        plan = device(client, "b")
        assert plan["taken_bytes"] == 5 * GIB
        assert plan["budget_bytes"] == 30 * GIB - HEAD_ROOM + 5 * GIB, "what is left for others is what is free"
