"""The service stops: in order, within its time, with streams read to their end, and leaves nothing."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def nothing_left(box: Any) -> bool:
    return str(box.run("pgrep", "-u", "ingle,ingle-hooks", check=False).stdout) == ""


def test_stop_ends_models_nursery_and_hosts_and_leaves_nothing(box: Any) -> None:
    box.run("systemctl", "start", "ingled")
    box.run("systemctl", "stop", "ingled.socket", "ingled")
    box.until(lambda: box.show("ActiveState", "ingle-nursery") == "inactive")
    assert (box.show("ActiveState"), box.show("Result")) == ("inactive", "success")
    assert box.show("Result", "ingle-nursery") == "success"
    box.until(lambda: box.show("ActiveState", "ingled-hooks") == "inactive")
    assert box.show("Result", "ingled-hooks") == "success"
    assert nothing_left(box)
    left = box.out("sh", "-c", "cd /run/ingle; find . -not -type d -not -path '*/logs/*'").splitlines()
    assert left == ["./ingle.sock.d/ingled.lock"]
    assert box.out("sh", "-c", "cd /run/ingle-hooks; find . -not -type d -not -path '*/logs/*'") == ""


def test_the_target_stops_all_of_it(box: Any) -> None:
    box.run("systemctl", "start", "ingle.target")
    box.until(lambda: box.show("ActiveState") == "active")
    box.run("systemctl", "stop", "ingle.target")
    units = ("ingled.service", "ingled.socket", "ingle-nursery.service", "ingled-hooks.service")
    box.until(lambda: [box.show("ActiveState", unit) for unit in units] == ["inactive"] * 4)
    assert nothing_left(box)


def test_a_running_stream_is_drained_even_if_that_takes_longer_than_systemd_waits(box: Any, stream: Any) -> None:
    box.drop_in("ingled.service", "[Service]\nTimeoutStopSec=3\n")
    box.run("systemctl", "start", "ingled")
    reading = stream(4000)
    box.run("systemctl", "stop", "ingled.socket", "ingled")
    assert reading.outcome() == "whole"
    assert box.show("Result") == "success"


def test_a_stream_that_takes_too_long_is_ended_and_the_stop_is_in_time(box: Any, stream: Any) -> None:
    text = '[daemon]\ndrain = 1\n[models.slow]\nsource = "builtin:ember"\necho = {delay_ms = 10}\n'
    box.write("/etc/ingle/ingled.toml", text)
    box.run("systemctl", "start", "ingled")
    reading = stream(3000)
    box.run("systemctl", "stop", "ingled.socket", "ingled")
    assert "the daemon stops" in reading.outcome()
    assert box.show("Result") == "success"
