"""The real logind suspends the machine: all but the last step, in place of which nothing is done."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GPU = 'gpu = {name = "Pretended", total = 80000000000, free = 70000000000, driver = "1"}'
CONFIG = f"""
[models.slow]
source = "builtin:ember"
preload = true
[models.slow.echo]
delay_ms = 2
sleep = "works"
memory = {{weights = 20000000, kv_cache = 10000000, process = 2000000}}
{GPU}
"""
SUSPEND = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'touch /run/suspended'\n"


@pytest.fixture
def logind(box: Any) -> Any:
    """A logind that may suspend what it takes for a machine."""
    pytest.importorskip("jeepney", reason="the environment is older than its lock: make setup")
    box.write("/run/systemd/system/systemd-suspend.service.d/test.conf", SUSPEND)
    box.run("systemctl", "daemon-reload")
    box.write("/run/power-state", "mem\n")
    box.run("sh", "-c", "mountpoint -q /sys/power/state || mount --bind /run/power-state /sys/power/state", check=False)
    if box.run("systemctl", "start", "dbus.service", "systemd-logind.service", check=False).returncode:
        pytest.skip("needs dbus-daemon and systemd-logind")
    can = box.run("busctl", "call", *MANAGER, "CanSuspend", check=False).stdout
    if '"yes"' not in can:
        pytest.skip(f"logind cannot be told that it may suspend this box: {can}")
    box.run("rm", "-f", "/run/suspended")
    return box


MANAGER = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")


def state(box: Any) -> tuple[str, str]:
    return box.json("status")["suspend"]["state"], box.json("show", "slow")["state"]


def test_models_are_off_the_gpu_before_it_is_suspended_and_streams_go_on_afterwards(logind: Any, stream: Any) -> None:
    logind.write("/etc/ingle/ingled.toml", CONFIG)
    logind.run("systemctl", "start", "ingled")
    logind.until(lambda: logind.json("plan", "slow")["device"]["name"] == "Pretended")
    logind.until(lambda: state(logind) == ("ready", "ready"))
    assert "ingled" in logind.out("systemd-inhibit", "--list", "--no-pager")
    reading = stream(3000)
    logind.run("busctl", "call", *MANAGER, "Suspend", "b", "false")
    logind.until(lambda: logind.run("test", "-e", "/run/suspended", check=False).returncode == 0)
    said = logind.journal("-u", "ingled", "-u", "systemd-logind", lines=200)
    assert said.index("the machine is about to be suspended") < said.index("dozing -> sleeping")
    assert "were not ready" not in said
    assert reading.outcome() == "whole"
    logind.until(lambda: state(logind) == ("ready", "ready"))
    assert "the machine is back" in logind.journal("-u", "ingled", lines=200)
    assert "ingled" in logind.out("systemd-inhibit", "--list", "--no-pager"), "it is ready for the next time"
