"""Hook hosts in their unit: another account, ended and replaced through their keeper, and living on when others go."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLUGIN = """
import os, re
from ingled.hooks import Hook, hookimpl, note

HOOK = Hook(deadline_ms=30_000)

@hookimpl
def ingled_prompt(messages):
    if messages[-1]["content"] == "hang":
        re.match(r"(a+)+$", "a" * 64 + "b")
    return note(pid=os.getpid(), uid=os.getuid(){more})
"""
NETWORK = """
def network():
    import socket
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return "there"
    except OSError as error:
        return error.strerror
"""
PATH = "/etc/ingle/plugins/mark.py"


@pytest.fixture
def warm(box: Any) -> Any:
    box.write(PATH, PLUGIN.format(more=""))
    box.run("systemctl", "start", "ingled")
    yield box
    box.run("rm", "-f", PATH)


def told(box: Any, said: str = "x") -> dict[str, Any]:
    """What the plugin says of itself; why not, where it cannot."""
    answer = json.loads(box.ingle("ask", "--json", "--no-stream", said).stdout)
    hook: dict[str, Any] = answer["hooks"][0]
    return hook.get("note") or hook


def gone(box: Any, pid: int) -> None:
    """Wait until a process has ended."""
    box.until(lambda: box.run("test", "-d", f"/proc/{pid}", check=False).returncode != 0)


def test_plugins_run_in_a_unit_and_an_account_of_their_own(warm: Any) -> None:
    host = told(warm)
    assert warm.out("id", "-un", str(host["uid"])) == "ingle-hooks"
    assert warm.out("cat", f"/proc/{host['pid']}/cgroup").endswith("/ingled-hooks.service")
    pid = warm.show("MainPID")
    assert warm.out("cat", "/sys/fs/cgroup/system.slice/ingled.service/cgroup.procs").split() == [pid]


def test_a_plugin_that_is_saved_is_there_in_a_fresh_host(warm: Any) -> None:
    before = told(warm)["pid"]
    warm.write(f"{PATH}.new", PLUGIN.format(more=", again=True"))
    warm.run("mv", f"{PATH}.new", PATH)
    warm.until(lambda: told(warm).get("again"))
    assert told(warm)["pid"] != before
    gone(warm, before)


def test_a_host_that_hangs_is_killed_by_its_keeper_and_replaced(warm: Any) -> None:
    before = told(warm)["pid"]
    assert "it held the hook host up" in told(warm, "hang")["why"]
    gone(warm, before)
    assert told(warm)["pid"] != before
    assert "signal 9" in warm.journal("-u", "ingled-hooks")


def test_hosts_outlive_the_broker_and_a_new_keeper_has_fresh_ones(warm: Any) -> None:
    before = told(warm)
    for end in (("restart", "ingled"), ("kill", "-s", "KILL", "ingled")):
        pid = warm.show("MainPID")
        warm.run("systemctl", *end)
        after = told(warm)
        assert warm.show("MainPID") != pid
        late = "of an earlier broker does not answer" in warm.journal("-u", "ingled")  # which a busy machine may do
        assert after == before or late
        before = after
    for end in (("kill", "-s", "KILL", "--kill-who=main", "ingled-hooks"), ("restart", "ingled-hooks")):
        before = told(warm)
        warm.run("systemctl", *end)
        gone(warm, before["pid"])
        assert told(warm)["pid"] != before["pid"]


def test_a_plugin_may_have_the_network_and_the_broker_still_has_none(warm: Any) -> None:
    warm.write(PATH, PLUGIN.format(more=", net=network()") + NETWORK)
    warm.until(lambda: told(warm).get("net") == "Address family not supported by protocol")
    network = "PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressDeny=\n"
    warm.drop_in("ingled-hooks.service", f"[Service]\n{network}")
    warm.run("systemctl", "restart", "ingled-hooks")
    warm.until(lambda: told(warm).get("net") == "there")
    assert warm.show("RestrictAddressFamilies", "ingled.service") == "AF_UNIX"
