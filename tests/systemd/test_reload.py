"""systemctl reload: it waits until the reload is done, and fails when the configuration is wrong."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_good_reload_is_done_when_systemctl_returns(box: Any) -> None:
    box.run("systemctl", "start", "ingled")
    pid = box.show("MainPID")
    box.write("/etc/ingle/ingled.d/50-more.toml", "[daemon]\ndrain = 5\n")
    box.run("systemctl", "reload", "ingled")
    settings = {one["key"]: one for one in box.json("config", "show")["settings"]}
    assert settings["daemon.drain"] == {
        "key": "daemon.drain",
        "value": 5.0,
        "origin": "/etc/ingle/ingled.d/50-more.toml",
    }
    assert (box.show("ActiveState"), box.show("MainPID")) == ("active", pid)
    box.run("rm", "/etc/ingle/ingled.d/50-more.toml")
    box.run("systemctl", "kill", "-s", "HUP", "ingled")
    box.until(lambda: "daemon.drain = 30.0" in box.ingle("config", "show", "--effective").stdout)


def test_a_bad_reload_fails_with_the_reason_and_changes_nothing(box: Any) -> None:
    box.run("systemctl", "start", "ingled")
    pid = box.show("MainPID")
    box.write("/etc/ingle/ingled.toml", "[daemon]\ndrian = 5\n")
    assert box.run("systemctl", "reload", "ingled", check=False).returncode != 0
    assert (box.show("ActiveState"), box.show("MainPID")) == ("active", pid)
    told = box.journal("-u", "ingled")
    assert told.count("/etc/ingle/ingled.toml:2: daemon.drian: unknown key; did you mean 'drain'?") >= 2, "both say why"
    assert "did you mean 'drain'?" in box.ingle("status").stdout
    assert box.json("models")["models"][0]["state"] == "ready"
