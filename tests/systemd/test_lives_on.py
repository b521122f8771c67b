"""The daemon is killed, hangs and is restarted, and clients do not notice: socket, models and streams live on."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORDS = 2500
LATE = """
import subprocess, sys
from ingle import Client
with Client("/run/ingle/ingle.sock", timeout=60) as client:
    print(client.chat("sent while nobody was there", model="slow").text)
"""


@pytest.fixture
def warm(box: Any) -> Any:
    box.run("systemctl", "start", "ingled")
    return box


def test_a_restart_keeps_models_warm_and_streams_going(warm: Any, stream: Any) -> None:
    before, reading = warm.pids(), stream(WORDS)
    warm.run("systemctl", "restart", "ingled")
    after = warm.pids()
    assert reading.outcome() == "whole"
    assert (before[0] != after[0], before[1:]) == (True, after[1:])
    assert "handed over" in warm.journal("-u", "ingled")


def test_a_killed_daemon_is_started_again_and_adopts_what_ran(warm: Any, stream: Any) -> None:
    before, reading = warm.pids(), stream(WORDS)
    socket = warm.out("stat", "-c", "%i", "/run/ingle/ingle.sock")
    warm.run("kill", "-KILL", str(before[0]))
    assert reading.outcome() == "whole"
    after = warm.pids()
    assert (before[0] != after[0], before[1:]) == (True, after[1:])
    assert warm.out("stat", "-c", "%i", "/run/ingle/ingle.sock") == socket, "systemd's socket outlives the daemon"
    assert warm.show("NRestarts") == "1"


def test_what_is_sent_while_there_is_no_daemon_is_answered_by_the_next(warm: Any) -> None:
    warm.drop_in("ingled.service", "[Service]\nRestartSec=5\n")
    warm.run("kill", "-SEGV", str(warm.pids()[0]))
    warm.until(lambda: warm.show("SubState") == "auto-restart")
    sent = warm.spawn("/usr/local/lib/ingle/bin/python", "-P", "-c", LATE)
    assert sent.communicate(timeout=60)[0].strip() == "sent while nobody was there"


def test_a_daemon_that_hangs_is_replaced_by_the_watchdog(box: Any, stream: Any) -> None:
    box.drop_in("ingled.service", "[Service]\nWatchdogSec=4\n")
    box.run("systemctl", "start", "ingled")
    before, reading = box.pids(), stream(WORDS)
    box.run("kill", "-STOP", str(before[0]))
    assert reading.outcome() == "whole"
    after = box.pids()
    assert (before[0] != after[0], before[1:]) == (True, after[1:])
    assert "Watchdog timeout" in box.journal("-u", "ingled")


def test_a_killed_nursery_is_replaced_and_the_workers_live_on(warm: Any, stream: Any) -> None:
    before, reading = warm.pids(), stream(WORDS)
    warm.run("kill", "-KILL", str(before[1]))
    assert reading.outcome() == "whole"
    warm.until(lambda: warm.json("status")["nursery"]["pid"] not in (None, before[1]))
    after = warm.pids()
    assert (before[0], before[2]) == (after[0], after[2])
    assert '"ready"' in warm.ingle("load", "other", "--json").stdout


def test_a_daemon_that_dies_again_and_again_is_given_up(box: Any) -> None:
    box.drop_in("ingled.service", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -SEGV $$$$'\n")
    assert box.run("systemctl", "start", "ingled", check=False).returncode != 0
    box.until(lambda: box.show("ActiveState") == "failed")
    assert box.show("NRestarts") == "5"
    assert box.show("Result", "ingled.socket") in ("service-start-limit-hit", "success")
    assert "Start request repeated too quickly" in box.journal("-u", "ingled")


ROOM = "/run/ingle/ingle.sock.d/waiting"
LOADS_LATE = """
[models.slow]
source = "builtin:ember"
preload = true
[models.late]
source = "builtin:ember"
echo = {load_ms = 8000}
"""


def test_what_waits_for_a_load_outlives_a_restart_and_a_crash(box: Any) -> None:
    box.write("/etc/ingle/ingled.toml", LOADS_LATE)
    box.run("systemctl", "start", "ingled")
    for end in (("systemctl", "restart", "ingled"), ("systemctl", "kill", "-s", "KILL", "ingled")):
        pid = box.show("MainPID")
        id = box.out("ingle", "ask", "--detach", "-m", "late", "one two three")
        assert {one["id"]: one["state"] for one in box.json("requests")["requests"]}[id] == "queued"
        assert box.out("grep", "-ac", "one two three", ROOM) == "1", "in memory, below /run"
        box.run(*end)
        assert box.out("ingle", "attach", id) == "one two three"
        assert box.show("MainPID") != pid
        box.run("ingle", "unload", "late")
    assert box.out("stat", "-c", "%s", ROOM) == "0"
