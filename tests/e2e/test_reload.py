"""A configuration that is read anew while the daemon runs: what changes, what is named, and what a mistake does."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ingled.testing import DaemonFixture, Wire

CONFIG = """
[daemon]
log_level = "info"
watch = false
[models.echo]
source = "builtin:ember"
preload = true
"""


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(CONFIG) as running:
        yield running


def until(what: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_what_can_change_changes_and_the_rest_is_named(daemon: DaemonFixture) -> None:
    pid = daemon.json("status")["daemon"]["pid"]
    daemon.file.write_text(
        CONFIG.replace("info", "debug") + 'context = 128\n[models.more]\nsource = "builtin:ember"\n'
        "[hooks.audit]\naccount = 'uid:0'\n[[rules]]\naccounts = ['uid:12345']\nmodels = []\n"
    )
    told = daemon.json("reload")
    assert told["changed"] == ["daemon.log_level", "hooks.audit", "rules"]
    assert told["after_restart"] == ["models.echo", "models.more"]
    assert daemon.json("status")["daemon"]["pid"] == pid
    assert "DEBUG request" not in daemon.log.read_text()
    assert daemon.json("ask", "--no-stream", "one two")["text"] == "one two"
    assert "DEBUG request" in daemon.log.read_text()
    assert daemon.json("reload")["after_restart"] == ["models.echo", "models.more"], "until it is done"
    daemon.file.write_text(CONFIG)
    assert daemon.json("reload")["after_restart"] == []


def test_a_mistake_changes_nothing_and_is_told_everywhere(daemon: DaemonFixture) -> None:
    daemon.file.write_text(CONFIG.replace("info", "debug") + "[daemon2]\n")
    failed = daemon.cli("reload", "--json")
    assert failed.returncode == 4
    reason = json.loads(failed.stdout)["message"]
    assert "daemon2: unknown key" in reason and str(daemon.file) in reason
    assert "config    the last reload changed nothing" in daemon.cli("status").stdout
    assert daemon.json("config", "show")["problem"] == reason
    assert reason in daemon.log.read_text()
    assert daemon.json("ask", "--no-stream", "one two")["text"] == "one two"
    assert "DEBUG request" not in daemon.log.read_text()
    daemon.file.write_text(CONFIG)
    assert daemon.json("reload") == {"changed": [], "after_restart": []}
    assert daemon.json("status")["daemon"]["config_problem"] is None


def test_sighup_reloads_too(daemon: DaemonFixture) -> None:
    assert daemon.process is not None
    daemon.file.write_text(CONFIG + "[[rules]]\naccounts = ['*']\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "changed now: rules" in daemon.log.read_text())
    daemon.file.write_text("x")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "the configuration stays as it was" in daemon.log.read_text())
    assert daemon.process.poll() is None


def test_plugins_come_go_and_get_other_options_while_requests_run(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        id = client.ask("a b c d e f", credit=1, body={"max_tokens": 6})
        plugin = "[plugins.guard]\norder = 200\n[plugins.guard.options]\nbanned = ['forbidden fruit']\n"
        daemon.file.write_text(CONFIG + plugin)
        told = daemon.json("reload")
        assert told["changed"] == ["plugins.guard"]
        until(lambda: [one["name"] for one in daemon.json("hooks")["hooks"]] or daemon.json("hooks")["problems"])
        assert client.read(id)[0] == "a b c d e f"
    daemon.file.write_text(CONFIG)
    assert daemon.json("reload")["changed"] == ["plugins.guard"]
    until(lambda: daemon.json("hooks")["hooks"] == [])


def test_settings_are_shown_with_where_they_come_from(daemon: DaemonFixture) -> None:
    lines = daemon.cli("config", "show", "--effective", "--origin").stdout.splitlines()
    assert f'daemon.log_level = "info"    # {daemon.file}' in lines
    assert "daemon.drain = 30.0    # default" in lines
    plain = daemon.cli("config", "show").stdout.splitlines()
    assert 'daemon.log_level = "info"' in plain
    assert not any(line.startswith("daemon.drain") for line in plain)


def test_a_file_is_checked_without_a_daemon(daemon: DaemonFixture) -> None:
    daemon.file.write_text("[daemon]\ndrian = 1\n")
    found = daemon.cli("config", "check", str(daemon.file))
    assert (found.returncode, "did you mean 'drain'?" in found.stderr) == (78, True)
    assert daemon.cli("config", "sing").returncode == 2


def test_a_file_is_read_anew_when_it_is_saved() -> None:
    with DaemonFixture(CONFIG.replace("watch = false", "watch = true")) as daemon:
        daemon.file.write_text(CONFIG.replace("watch = false", "drain = 7"))
        until(lambda: "changed now: daemon.drain" in daemon.log.read_text())
        daemon.file.write_text("[demon]")
        until(lambda: daemon.json("status")["daemon"]["config_problem"])
        daemon.file.write_text(CONFIG)
        until(lambda: daemon.json("status")["daemon"]["config_problem"] is None)
        assert daemon.log.read_text().count("configuration read") == 2
