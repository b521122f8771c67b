"""The `ingle` command against a real daemon: what becomes of it when the daemon is replaced, and attaching."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from ingled.testing import DaemonFixture, Wire

CONFIG = """
[daemon]
adopt_grace = 10

[models.slow]
source = "builtin:ember"
default = true
echo = {delay_ms = 5}
"""
TEXT = " ".join(f"wörd{i}" for i in range(400))


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(CONFIG) as running:
        yield running


def start(daemon: DaemonFixture, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ingle", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=daemon.environ | {"INGLE_SOCKET": str(daemon.socket)},
    )


def read_until(process: "subprocess.Popen[bytes]", size: int) -> bytes:
    """Return the beginning of what a command prints."""
    assert process.stdout is not None
    seen, end = b"", time.monotonic() + 60
    while len(seen) < size:
        assert select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0], seen
        data = os.read(process.stdout.fileno(), 4096)
        assert data, process.communicate()
        seen += data
    return seen


def replace_broker(daemon: DaemonFixture) -> None:
    daemon.kill()
    daemon.start()


def test_ask_goes_on_when_the_broker_is_killed_and_started_again(daemon: DaemonFixture) -> None:
    process = start(daemon, "ask", "--max-tokens", "400", TEXT)
    head = read_until(process, 100)
    replace_broker(daemon)
    rest, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")
    assert (head + rest).decode() == TEXT + "\n"


def test_ask_survives_two_replacements_while_its_model_is_loaded_and_after(daemon: DaemonFixture) -> None:
    process = start(daemon, "ask", "--json", "--max-tokens", "400", TEXT)
    first = read_until(process, 1)  # accepted: the model is cold
    replace_broker(daemon)
    head = read_until(process, 1000)
    replace_broker(daemon)
    rest, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")
    said = [json.loads(line) for line in (first + head + rest).splitlines()]
    assert "".join(message.get("x", "") for message in said) == TEXT
    assert [message["t"] for message in said].count("accepted") <= 2  # asked again: it has another id
    assert said[-1]["t"] == "done"


def test_attach_reads_what_is_left_of_a_request_that_another_reads(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as first:
        id = first.ask(TEXT, credit=4, body={"max_tokens": 400})
        text = b""
        while len(text) < 50:
            message = first.receive()
            if message["t"] == "chunk":
                text += message["x"].encode()
                first.send({"t": "credit", "id": id, "n": 1, "ack": len(text)})
        first.call("status")  # the credit has arrived
        ran = daemon.cli("attach", id)
    assert (ran.returncode, ran.stderr) == (0, f"(the first {len(text)} bytes are no longer held)\n")
    assert ran.stdout == TEXT.encode()[len(text) :].decode() + "\n"


def test_cancel_of_a_kept_answer_drops_it(daemon: DaemonFixture) -> None:
    id = daemon.cli("ask", "--detach", "one two").stdout.strip()
    assert daemon.cli("attach", id).stdout == "one two\n"
    assert daemon.cli("cancel", id).stdout == f"{id} was over; its kept answer has been dropped\n"
    ran = daemon.cli("attach", id)
    assert (ran.returncode, "no_such_request" in daemon.cli("attach", "--json", id).stdout) == (4, True)


def test_logs_says_where_the_log_of_a_daemon_that_systemd_did_not_start_is(daemon: DaemonFixture) -> None:
    found = daemon.cli("logs")
    assert (found.returncode, found.stdout) == (2, "")
    assert f"the log of a daemon of your own is its standard error, {daemon.log}" in found.stderr


def test_config_show_says_that_nothing_is_set() -> None:
    with DaemonFixture("") as daemon:
        found = daemon.cli("config", "show")
        assert (found.returncode, found.stdout) == (0, "")
        assert found.stderr == "nothing is set: `ingle config show --effective` prints the defaults\n"
        assert daemon.json("config", "show")["settings"]
