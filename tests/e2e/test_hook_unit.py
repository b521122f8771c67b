"""Hook hosts in a unit of their own: a keeper starts and kills them, and the broker only speaks with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until
from ingled.testing_plugins import write_plugin

MARK = """
@hookimpl
def ingled_prompt(messages):
    said = messages[-1]["content"]
    if said == "hang":
        re.match(r"(a+)+$", "a" * 64 + "b")
    if said == "die":
        os._exit(3)
    return note(host=os.getpid(), parent=os.getppid())
"""
WAIT_S = 60


class Apart(DaemonFixture):
    """A daemon whose hosts are started by a keeper that the test runs, as systemd would."""

    def __init__(self, plugins: Path) -> None:
        text = f'[daemon]\nplugin_folder = "{plugins}"\nadopt_grace = 20\n[models.fast]\nsource = "builtin:ember"\n'
        super().__init__(text)
        self.meeting = self.folder / "hooks"
        self.meeting.mkdir(mode=0o700)
        self.keeper = self.keep()

    @property
    def command(self) -> list[str]:
        return [*super().command, "--hooks", str(self.meeting)]

    def keep(self) -> "subprocess.Popen[bytes]":
        """Start a keeper."""
        with self.log.open("ab") as out:
            command = [sys.executable, "-P", "-m", "ingled.keeper", "--runtime", str(self.meeting)]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environ)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.keeper.kill()
            self.keeper.wait()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Apart]:
    write(tmp_path, "mark", MARK)
    with Apart(tmp_path) as running:
        yield running


def write(folder: Path, name: str, text: str) -> None:
    write_plugin(folder, name, text)


def told(client: Wire, said: str = "x") -> dict[str, Any]:
    """What the plugin says of itself at a request."""
    end = client.read(client.ask(said))[1]
    assert end["t"] == "done", end
    note: dict[str, Any] = end["hooks"][0]["note"]
    return note


def test_a_keeper_starts_the_hosts_and_leaves_when_the_daemon_stops(daemon: Apart) -> None:
    with Wire(daemon.socket) as client:
        host = told(client)
        assert host["parent"] == daemon.keeper.pid
    assert daemon.stop() == 0
    assert daemon.keeper.wait(WAIT_S) == 0
    wait_until(lambda: not Path(f"/proc/{host['host']}").exists(), WAIT_S)
    left = {str(path.relative_to(daemon.meeting)) for path in daemon.meeting.rglob("*") if not path.is_dir()}
    assert left == {"logs/hooks.log"}


def test_a_plugin_that_is_saved_is_there_in_a_fresh_host_and_a_bad_one_changes_nothing(
    daemon: Apart, tmp_path: Path
) -> None:
    with Wire(daemon.socket) as client:
        first = told(client)["host"]
        write(tmp_path, "mark", MARK.replace("parent=", "again=True, parent="))
        wait_until(lambda: told(client).get("again"), WAIT_S)
        assert told(client)["host"] != first
        wait_until(lambda: not Path(f"/proc/{first}").exists(), WAIT_S)
        write(tmp_path, "mark", "def (\n")
        wait_until(lambda: client.call("hooks")["problems"], WAIT_S)
        assert told(client)["again"]


@pytest.mark.parametrize(("said", "words"), [("hang", "it held the hook host up"), ("die", "exit status 3")])
def test_a_host_that_hangs_or_dies_is_replaced_and_it_is_known_how_it_ended(
    daemon: Apart, said: str, words: str
) -> None:
    with Wire(daemon.socket) as client:
        before = told(client)["host"]
        hook = client.read(client.ask(said))[1]["hooks"][0]
        assert (hook["verdict"], words in str(hook)) == ("skipped", True), hook
        wait_until(lambda: not Path(f"/proc/{before}").exists(), WAIT_S)
        assert told(client)["host"] != before


def test_hosts_outlive_their_keeper_and_the_next_one_ends_them_for_fresh_ones(daemon: Apart) -> None:
    with Wire(daemon.socket) as client:
        before = told(client)["host"]
        daemon.keeper.kill()
        daemon.keeper.wait()
        assert told(client)["host"] == before
        assert (
            client.read(client.ask("hang"))[1]["hooks"][0]["verdict"] == "skipped"
        )  # it is to be killed, by nobody yet
        daemon.keeper = daemon.keep()
        wait_until(lambda: not Path(f"/proc/{before}").exists(), WAIT_S)
        wait_until(lambda: told(client)["parent"] == daemon.keeper.pid, WAIT_S)
        daemon.keeper.terminate()  # as `systemctl restart ingled-hooks`: nobody hangs, and nothing fails
        assert daemon.keeper.wait(WAIT_S) == 0
        before = told(client)["host"]
        daemon.keeper = daemon.keep()
        wait_until(lambda: told(client)["parent"] == daemon.keeper.pid, WAIT_S)
        wait_until(lambda: not Path(f"/proc/{before}").exists(), WAIT_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1], ids=lambda n: n.name)
def test_hosts_and_keeper_outlive_the_daemon(daemon: Apart, number: signal.Signals) -> None:
    with Wire(daemon.socket) as client:
        before = told(client)
    assert daemon.process is not None
    daemon.process.send_signal(number)
    daemon.process.wait()
    daemon.start()
    with Wire(daemon.socket) as client:
        after = told(client)
        assert after["parent"] == daemon.keeper.pid
        late = "of an earlier broker does not answer" in daemon.log.read_text()  # which a busy machine may do
        assert after == before or late
        before = after
        assert client.read(client.ask("hang"))[1]["hooks"][0]["verdict"] == "skipped"
        wait_until(lambda: told(client)["host"] != before["host"], WAIT_S)


def test_who_reads_the_hosts_secret_can_be_no_worker(daemon: Apart) -> None:
    assert (daemon.meeting / "link.secret").read_text() != Path(f"{daemon.socket}.d/link.secret").read_text()
    assert (daemon.meeting / "link.secret").stat().st_mode & 0o777 == 0o640
    assert not os.path.exists(f"{daemon.socket}.d/logs/hooks.log")
