"""Several devices: models go where there is room, and one that is spread takes its part of each."""

import pytest
from ingle import Client, Refused
from ingled.testing import DaemonFixture

CONFIG = """
[daemon]
memory = ["400MiB", "400MiB"]
[models.a]
source = "/a"
memory = "300MiB"
[models.b]
source = "/b"
memory = "300MiB"
[models.wide]
source = "/wide"
memory = "600MiB"
tensor_parallel = 2
[models.huge]
source = "/huge"
memory = "500MiB"
[models.wider]
source = "/wider"
memory = "100MiB"
tensor_parallel = 3
"""


def places(client: Client) -> dict[str, list[str]]:
    return {model.name: model.devices or [] for model in client.models() if model.state == "ready"}


def test_models_go_where_there_is_room_and_a_wide_one_takes_both() -> None:
    with DaemonFixture(CONFIG) as daemon, Client(str(daemon.socket)) as client:
        client.load("a")
        client.load("b")
        assert places(client) == {"a": ["memory 0"], "b": ["memory 1"]}
        plan = daemon.json("plan", "wide")
        assert (plan["decision"], sorted(plan["evicts"])) == ("evict", ["a", "b"])
        assert plan["device"] == {"name": "memory 0, memory 1", "budget_bytes": 800 << 20, "taken_bytes": 600 << 20}
        assert client.chat("hi", model="wide").text == "hi"
        assert places(client) == {"wide": ["memory 0", "memory 1"]}
        assert "memory 0, memory 1" in daemon.cli("ps").stdout
        (one, two) = (daemon.json("plan", name)["device"]["taken_bytes"] for name in ("a", "wide"))
        assert (one, two) == (daemon.json("plan", "wide")["need"]["bytes"] // 2, 0), "its share of one device"
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
        assert places(client) == {"wide": ["memory 0", "memory 1"]}, "the next daemon is told where it is"
        assert client.chat("hi", model="b").text == "hi"
        assert places(client) == {"b": ["memory 0"]}
        for model, words in (("huge", "needs 500 MiB"), ("wider", "3 devices, and there are 2")):
            with pytest.raises(Refused, match=words) as failed:
                client.load(model)
            assert failed.value.code == "does_not_fit"
