"""A configuration that is read anew while the daemon runs: what changes, what is named, and what a mistake does."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_plugins import HEAD

from tests.e2e.test_plugins import UPPER

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


def test_what_can_change_changes_and_the_rest_is_named(daemon: DaemonFixture) -> None:
    pid = daemon.json("status")["daemon"]["pid"]
    daemon.file.write_text(
        CONFIG.replace("info", "debug") + "[hooks.audit]\naccount = 'uid:0'\n"
        "[[rules]]\naccounts = ['uid:12345']\nmodels = []\n"
    )
    told = daemon.json("reload")
    assert told["changed"] == ["daemon.log_level", "hooks.audit", "rules"]
    assert (told["at_next_load"], told["after_restart"]) == ([], [])
    assert daemon.json("status")["daemon"]["pid"] == pid
    assert "DEBUG request" not in daemon.log.read_text()
    assert daemon.json("ask", "--no-stream", "one two")["text"] == "one two"
    assert "DEBUG request" in daemon.log.read_text()


def states(client: Wire) -> dict[str, str]:
    return {one["name"]: one["state"] for one in client.call("models")["models"]}


def test_models_come_change_and_go(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.call("load", model="echo")
        pid = client.call("show", model="echo")["pid"]
        more = '[models.more]\nsource = "/x"\naliases = ["extra"]\n[models.warm]\nsource = "/y"\npreload = true\n'
        daemon.file.write_text(CONFIG + 'context = 128\naliases = ["other"]\n' + more)
        told = client.call("reload")
        assert told["changed"] == ["models.echo", "models.more", "models.warm"]
        assert (told["at_next_load"], told["after_restart"]) == (["models.echo"], [])
        wait_until(lambda: states(client)["warm"] == "ready")
        assert client.read(client.ask("one two", model="extra"))[0] == "one two"
        assert client.read(client.ask("one two", model="other"))[0] == "one two"
        shown = client.call("show", model="echo")
        assert (shown["pid"], shown["context"], shown["options"]["max_model_len"]) == (pid, 8192, 128)
        client.call("unload", model="echo")
        client.call("load", model="echo")
        assert client.call("show", model="echo")["context"] == 128
        assert not any(client.call("reload").values()), "nothing has changed since"
        # A model that goes ends what it has, whoever waits, and is gone for who asks.
        running = client.ask("a b c d e f", credit=0, model="more", body={"max_tokens": 6})
        daemon.file.write_text(CONFIG.replace("models.echo", "models.warm").replace("builtin:ember", "/y"))
        assert client.call("reload")["changed"] == ["models.echo", "models.more"]
        wait_until(lambda: states(client) == {"more": "ready", "warm": "ready"})
        assert "has it no more" in client.call("models")["models"][0]["why"]
        with pytest.raises(RuntimeError, match="no_such_model"):
            client.ask("x", model="more")
        client.send({"t": "credit", "id": running, "n": 50, "ack": 0})
        assert client.read(running)[0] == "a b c d e f"
        wait_until(lambda: states(client) == {"warm": "ready"})
        assert client.read(client.ask("the default is another"))[1]["model"]["name"] == "warm"
        # And it may come back.
        daemon.file.write_text(CONFIG)
        client.call("reload")
        assert client.read(client.ask("again here"))[1]["model"]["name"] == "echo"
    assert "a bug of ingled" not in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()


def test_a_model_that_failed_is_tried_again_at_once_when_its_profile_has_changed(daemon: DaemonFixture) -> None:
    broken = CONFIG + '[models.bad]\nsource = "/x"\necho = {fail = "load"}\n'
    daemon.file.write_text(broken)
    with Wire(daemon.socket) as client:
        client.call("reload")
        assert client.read(client.ask("x", model="bad"))[1]["code"] == "load_failed"
        daemon.file.write_text(broken.replace('fail = "load"', ""))
        assert client.call("reload")["changed"] == ["models.bad"]
        assert client.read(client.ask("x y", model="bad"))[0] == "x y"


def test_metrics_and_bounds_of_memory_change_while_the_daemon_runs(daemon: DaemonFixture) -> None:
    first, second = daemon.folder / "m1.sock", daemon.folder / "m2.sock"

    def scraped(path: Path) -> bool:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(path))
            one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return b"ingle_connections" in b"".join(iter(lambda: one.recv(65536), b""))

    with Wire(daemon.socket) as client:
        client.call("load", model="echo")
        changes = f'metrics = "{first}"\nmemory = "1GiB"\npatience = 1\nstuck = 7\nadopt_grace = 20\n[models'
        daemon.file.write_text(CONFIG.replace("[models", changes) + 'memory = "3GiB"\n')
        keys = ["adopt_grace", "stuck", "memory", "patience", "metrics"]
        assert client.call("reload")["changed"] == [*(f"daemon.{key}" for key in keys), "models.echo"]
        assert scraped(first)
        wait_until(lambda: client.call("plan", model="echo")["device"]["budget_bytes"] == 1 << 30)
        client.call("unload", model="echo")
        assert client.read(client.ask("x"))[1]["code"] == "does_not_fit"
        daemon.file.write_text(CONFIG.replace("[models", f'metrics = "{second}"\n[models'))
        client.call("reload")
        assert scraped(second) and not first.exists()
        assert client.read(client.ask("one"))[0] == "one"
        (daemon.folder / "file").touch()
        daemon.file.write_text(CONFIG.replace("[models", f'metrics = "{daemon.folder / "file" / "x"}"\n[models'))
        with pytest.raises(RuntimeError, match=r"daemon\.metrics"):
            client.call("reload")
        assert scraped(second), "nothing has changed"
        daemon.file.write_text(CONFIG)
        client.call("reload")
        wait_until(lambda: not second.exists())


SHOUT = HEAD + UPPER


def test_the_folder_of_plugins_may_be_another(daemon: DaemonFixture) -> None:
    folder = daemon.folder / "elsewhere"
    folder.mkdir()
    (folder / "upper.py").write_text(SHOUT)
    daemon.file.write_text(CONFIG.replace("[models", f'plugin_folder = "{folder}"\n[models'))
    assert daemon.json("reload")["changed"] == ["daemon.plugin_folder"]
    wait_until(lambda: daemon.json("ask", "--no-stream", "one two")["text"] == "ONE TWO")


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
    assert daemon.json("reload") == {"changed": [], "at_next_load": [], "after_restart": [], "problems": []}
    assert daemon.json("status")["daemon"]["config_problem"] is None


def test_sighup_reloads_too(daemon: DaemonFixture) -> None:
    assert daemon.process is not None
    daemon.file.write_text(CONFIG + "[[rules]]\naccounts = ['*']\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "changed now: rules" in daemon.log.read_text())
    daemon.file.write_text("x")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the configuration stays as it was" in daemon.log.read_text())
    assert daemon.process.poll() is None


def test_plugins_come_go_and_get_other_options_while_requests_run(daemon: DaemonFixture) -> None:
    plugin = "[plugins.guard]\norder = 200\ndeadline_ms = 30_000\n"
    plugin += "[plugins.guard.options.rules.fruit]\nkeywords = ['{}']\naction = 'refuse'\n"
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask("a b c d e f", credit=1, body={"max_tokens": 6})
        daemon.file.write_text(CONFIG + plugin.format("forbidden fruit"))
        told = daemon.json("reload")
        assert (told["changed"], told["problems"]) == (["plugins.guard"], [])
        assert [one["name"] for one in daemon.json("hooks")["hooks"]] == ["guard"]
        for fruit in ("forbidden", "other"):
            daemon.file.write_text(CONFIG + plugin.format(f"{fruit} fruit"))
            assert daemon.json("reload")["problems"] == []
            for asked in ("forbidden fruit", "other fruit"):
                end = other.read(other.ask(asked))[1]
                assert (end["t"] == "failed") is asked.startswith(fruit), "it is asked as it is configured now"
        assert client.read(id)[0] == "a b c d e f"
    daemon.file.write_text(CONFIG)
    assert daemon.json("reload")["changed"] == ["plugins.guard"]
    assert daemon.json("hooks")["hooks"] == []


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
    found = daemon.cli("config", "check", "--json", str(daemon.file))
    (checked,) = json.loads(found.stdout)["checked"]
    assert (found.returncode, checked["what"], "did you mean" in checked["problem"]) == (78, "configuration", True)
    assert daemon.cli("config", "sing").returncode == 2


def test_a_file_is_read_anew_when_it_is_saved() -> None:
    with DaemonFixture(CONFIG.replace("watch = false", "watch = true")) as daemon:
        daemon.file.write_text(CONFIG.replace("watch = false", "drain = 7"))
        wait_until(lambda: "changed now: daemon.drain" in daemon.log.read_text())
        daemon.file.write_text("[demon]")
        wait_until(lambda: daemon.json("status")["daemon"]["config_problem"])
        daemon.file.write_text(CONFIG)
        wait_until(lambda: daemon.json("status")["daemon"]["config_problem"] is None)
        assert daemon.log.read_text().count("configuration read") == 2
