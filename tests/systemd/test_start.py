"""The service starts: at boot, by the first message, when its models are warm; and who may do what with its files."""

import time
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ASK = """
from ingle import Client
with Client("/run/ingle/ingle.sock", timeout=60) as client:
    print(client.chat("one two three", model="slow").text)
"""


def test_systemd_finds_nothing_wrong_with_what_is_installed(box: Any) -> None:
    units = box.out("sh", "-c", "ls /usr/local/lib/systemd/system/*ingle*").split()
    assert len(units) == 5
    assert box.run("systemd-analyze", "verify", *units).stderr == ""
    users = box.out("sh", "-c", "ls /usr/local/lib/systemd/user/*ingle*").split()
    assert box.run("env", "XDG_RUNTIME_DIR=/tmp", "systemd-analyze", "--user", "verify", *users).stderr == ""


def test_a_boot_makes_account_and_folders_and_the_socket_waits(box: Any) -> None:
    assert box.out("stat", "-c", "%a %U:%G", "/run/ingle", "/etc/ingle").split("\n") == [
        "755 ingle:ingle",
        "755 root:root",
    ]
    assert box.out("stat", "-c", "%a %U:%G %F", "/run/ingle/ingle.sock") == "660 ingle:ingle socket"
    assert (box.show("ActiveState", "ingled.socket"), box.show("ActiveState")) == ("active", "inactive")
    meeting = ("/run/ingle-hooks", "/run/ingle-hooks/hosts")
    assert box.out("stat", "-c", "%a %U:%G", *meeting).split("\n") == [
        "2770 root:ingle-hooks",
        "2770 root:ingle-hooks",
    ]
    assert box.out("getent", "passwd", "ingle").endswith(":/var/lib/ingle:/usr/sbin/nologin")
    assert box.out("id", "-Gn", "ingle") == "ingle", "only the broker's unit is in the hosts' group"


def test_the_first_message_starts_the_daemon_and_is_answered(box: Any) -> None:
    assert box.show("ActiveState") == "inactive"
    begin = time.monotonic()
    assert box.python(ASK) == "one two three"
    print(f"from the first message to its answer: {time.monotonic() - begin:.2f} s")
    box.until(lambda: box.show("ActiveState") == "active")
    assert box.show("StatusText") == "1 of 3 models ready"


def test_the_sandbox_keeps_nothing_from_the_service_that_it_needs(box: Any) -> None:
    since = f"--since=@{time.time():.6f}"
    box.run("systemctl", "start", "ingled")
    box.ingle("load", "other")
    box.ingle("plan", "other", check=False)
    box.run("systemctl", "restart", "ingled")
    box.run("systemctl", "stop", "ingled")
    box.run("journalctl", "--sync")
    units = ["-u", "ingled", "-u", "ingle-nursery", "-u", "ingled-hooks"]
    assert box.out("journalctl", "--no-pager", "-q", "-p", "err", since, *units) == ""


def test_files_and_processes_are_the_services_own(box: Any) -> None:
    box.run("systemctl", "start", "ingled")
    modes = {
        "/run/ingle/ingle.sock.d": "700 ingle:ingle",
        "/run/ingle/ingle.sock.d/link.sock": "600 ingle:ingle",
        "/run/ingle/ingle.sock.d/link.secret": "600 ingle:ingle",
        "/run/ingle/ingle.sock.d/logs": "700 ingle:ingle",
        "/run/ingle-hooks/link.sock": "660 ingle:ingle-hooks",
        "/run/ingle-hooks/link.secret": "640 ingle:ingle-hooks",
        "/var/lib/ingle": "750 ingle:ingle",
        "/var/lib/ingle-hooks": "750 ingle-hooks:ingle-hooks",
        "/var/cache/ingle": "700 ingle:ingle",
    }
    assert {path: box.out("stat", "-c", "%a %U:%G", path) for path in modes} == modes
    owners = box.out("sh", "-c", "ps -eo user:20=,args= | grep '[/]ingle/bin/python'").splitlines()
    assert len(owners) >= 4
    assert {line.split()[0] for line in owners} == {"ingle", "ingle-hooks"}


def test_who_is_in_the_group_may_ask_and_nobody_else(box: Any) -> None:
    assert box.python(ASK, user="ann") == "one two three"
    found = box.ingle("ask", "hello", check=False, user="bob")
    assert found.returncode == 3
    assert "no access to the daemon" in found.stderr


def test_ready_means_that_preloaded_models_are_warm_however_long_it_takes(box: Any) -> None:
    text = '[models.slow]\nsource = "builtin:ember"\npreload = true\necho = {load_ms = 10000}\n'
    box.write("/etc/ingle/ingled.toml", text)
    box.drop_in("ingled.service", "[Service]\nTimeoutStartSec=5\n")
    start = box.spawn("systemctl", "start", "ingled")
    box.until(lambda: "loading slow" in box.show("StatusText"))
    assert box.show("ActiveState") == "activating"
    assert start.communicate(timeout=60)[1] == ""
    assert [model["state"] for model in box.json("models")["models"]] == ["ready"]


def test_ready_can_mean_that_the_socket_answers(box: Any) -> None:
    model = '[models.slow]\nsource = "builtin:ember"\npreload = true\necho = {load_ms = 8000}\n'
    text = '[daemon]\nready = "listening"\n' + model
    box.write("/etc/ingle/ingled.toml", text)
    box.run("systemctl", "start", "ingled")
    assert [model["state"] for model in box.json("models")["models"]] == ["loading"]
    box.until(lambda: box.show("StatusText") == "1 of 1 models ready")


def test_a_model_that_cannot_be_loaded_does_not_keep_the_service_from_starting(box: Any) -> None:
    text = '[models.broken]\nsource = "builtin:ember"\npreload = true\necho = {fail = "load"}\n'
    box.write("/etc/ingle/ingled.toml", text)
    box.run("systemctl", "start", "ingled")
    assert box.show("StatusText") == "0 of 1 models ready, broken has failed"


def test_a_wrong_configuration_is_told_and_not_tried_again(box: Any) -> None:
    box.write("/etc/ingle/ingled.toml", "[daemon]\ndrian = 3\n")
    assert box.run("systemctl", "start", "ingled", check=False).returncode != 0
    assert (box.show("Result"), box.show("ExecMainStatus"), box.show("NRestarts")) == ("exit-code", "78", "0")
    assert "did you mean 'drain'?" in box.journal("-u", "ingled")


def test_an_idle_daemon_leaves_and_comes_back_with_the_next_message(box: Any) -> None:
    text = '[daemon]\nidle_exit = 1\n[models.slow]\nsource = "builtin:ember"\n'
    box.write("/etc/ingle/ingled.toml", text)
    assert box.python(ASK) == "one two three"
    box.until(lambda: box.show("ActiveState") == "inactive")
    box.until(lambda: box.show("ActiveState", "ingle-nursery") == "inactive")
    assert box.show("Result") == "success"
    assert box.python(ASK) == "one two three"
