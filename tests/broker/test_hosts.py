"""Hook hosts that cannot be started."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ingled import link
from ingled.broker.host_children import HostChildren
from ingled.broker.hosts import MAIN, TRIES, Group, Hosts
from ingled.core import events as on


def test_plugins_whose_host_cannot_be_started_are_broken_and_those_of_another_host_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()

    def no_process(*_: Any, **__: Any) -> None:
        raise OSError("no processes left")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    loop, events = asyncio.new_event_loop(), []
    setup = link.Setup({"guard": link.Choice(), "other": link.Choice(), "off": link.Choice(enabled=False)})
    nobody = HostChildren(tmp_path)
    hosts = Hosts(loop, tmp_path, setup, nobody, send=lambda peer, message: None, dispatch=events.append)
    hosts.groups["solo:guard"] = Group()  # it runs, and the one of the others has died
    for _ in range(TRIES):
        hosts.want(MAIN)
    (offered,) = events
    assert isinstance(offered, on.PluginsOffered)
    assert [(entry.name, "no processes left" in entry.broken) for entry in offered.entries] == [("other", True)]
    events.clear()
    for _ in range(TRIES):
        hosts.want("solo:guard")
    (offered,) = events
    assert (offered.provider, [entry.name for entry in offered.entries]) == ("group:solo:guard", ["guard"])
    loop.close()
