"""No request can cause a reload: launch options belong to the profile, whatever a request says. A real daemon."""

from typing import Any

import pytest
from ingle.wire.schema import ChatBody, Request
from ingled.config.tables import Model
from ingled.link import FIELDS
from ingled.testing import DaemonFixture, Wire

CONFIG = """
[models.tiny]
source = "/tiny"
default = true
echo = {load_ms = 1}
"""
OPTIONS = {*Model.__struct_fields__, *FIELDS.values(), "gpu_memory_utilization", "enforce_eager", "lora_modules"}
"""Of profiles, of the engine, and some that the engine has beside."""


def refused(client: Wire, **fields: Any) -> str:
    """The code with which a request is refused."""
    with pytest.raises(RuntimeError) as error:
        client.ask("hi", **fields)
    return str(error.value.args[0]["code"])


def test_no_request_can_cause_a_reload() -> None:
    """Each option of a profile and of the engine, in the request itself, in its body, and in a call of `load`."""
    with DaemonFixture(CONFIG) as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as watcher:
        client.call("load", model="tiny")
        before = client.call("show", model="tiny")
        watcher.send({"t": "subscribe", "ref": 900, "topics": ["model"]})
        watcher.until("accepted", "result")
        for option in sorted(OPTIONS - {*ChatBody.__struct_fields__}):
            assert refused(client, body={option: 64}) == "unknown_field", option
        for option in sorted(OPTIONS - {*Request.__struct_fields__}):
            assert refused(client, **{option: 64}) == "unknown_field", option
            with pytest.raises(RuntimeError, match="unknown_field"):
                client.call("load", **{"model": "tiny", option: 64})
        text, end = client.read(client.ask("still there", model="tiny", priority=3, body={"max_tokens": 2, "seed": 1}))
        assert (end["t"], bool(text)) == ("done", True)
        after = client.call("show", model="tiny")
        assert (after["pid"], after["state"]) == (before["pid"], "ready")
        client.call("unload", model="tiny")
        assert watcher.until("event")[-1]["value"]["state"] == "stopping", "nothing had happened to the model before"
