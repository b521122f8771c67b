"""What the sandboxes of broker, nursery and hook hosts refuse, tried from inside them."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROBE = "/usr/local/lib/ingle/bin/python /usr/local/lib/ingle/src/tests/systemd/probe.py"
HIDDEN = ("EACCES", "ENOENT")
REFUSED = ("EPERM", "EACCES", "ENOSYS")


def probe(box: Any, unit: str, more: str = "", path: str = "") -> dict[str, str]:
    """Run the probe in a unit's sandbox."""
    path = path or f"/run/ingle/{unit}.probe"
    box.run("sh", "-c", "mkdir -p /home/ann/private; touch /tmp/of-others")
    box.drop_in(f"{unit}.service", f"[Service]\n{more}ExecStartPre={PROBE} {path}\n")
    box.run("systemctl", "start", unit)
    found: dict[str, str] = json.loads(box.out("cat", path))
    return found


def all_of_them(found: dict[str, str]) -> None:
    """Check what none of them may."""
    assert found["read a home"] in HIDDEN
    assert found["write /etc"] == "EROFS"
    assert found["write the program"] == "EROFS"
    assert found["see others' /tmp"] == "ENOENT"
    assert found["write a kernel setting"] in ("EROFS", *REFUSED, "ENOENT")
    assert found["raw packets"] == "EAFNOSUPPORT"
    for name in ("a user namespace", "trace a process", "mount", "a setuid file", "become root"):
        assert found[name] in REFUSED, name


def test_the_broker_has_no_device_no_network_and_no_code_that_it_wrote_itself(box: Any) -> None:
    found = probe(box, "ingled")
    print(found)
    all_of_them(found)
    assert found["write /var/lib/ingle"] == found["write /run/ingle"] == found["write /run/ingle-hooks"] == "ok"
    assert found["write /var/lib/ingle-hooks"] == "EROFS"
    assert found["open a device"] == "ENOENT"
    assert found["loopback"] == found["the network outside"] == "EAFNOSUPPORT"
    assert found["memory that is written and run"] in REFUSED
    assert found["write /var/cache/ingle"] == "EROFS"


def test_the_nursery_has_a_loopback_only_and_no_device_but_the_gpu(box: Any) -> None:
    found = probe(box, "ingle-nursery")
    print(found)
    all_of_them(found)
    assert found["write /var/lib/ingle"] == found["write /run/ingle"] == "ok"
    assert found["write /run/ingle-hooks"] in ("EROFS", "EACCES")
    assert found["open a device"] == "EPERM"
    assert found["loopback"] == "ok"
    assert found["the network outside"] in ("ENETUNREACH", "EPERM")
    assert found["write /var/cache/ingle"] == "ok"
    assert found["memory that is written and run"] == "ok", "torch compiles"


def test_hook_hosts_have_nothing_but_the_folder_where_they_meet_the_broker_and_one_of_their_own(box: Any) -> None:
    box.run("systemctl", "start", "ingled")
    broker = box.show("MainPID")
    box.run("systemctl", "stop", "ingled-hooks")
    found = probe(box, "ingled-hooks", f"Environment=BROKER={broker}\n", "/run/ingle-hooks/hooks.probe")
    print(found)
    all_of_them(found)
    assert found["write /run/ingle-hooks"] == found["write /var/lib/ingle-hooks"] == "ok"
    assert found["open a device"] == "ENOENT"
    assert found["loopback"] == found["the network outside"] == "EAFNOSUPPORT"
    assert found["memory that is written and run"] in REFUSED
    assert found["write /run/ingle"] in ("EROFS", "EACCES")
    for name in ("read /var/lib/ingle", "read /run/ingle/ingle.sock.d", "ask as a client", "signal the broker"):
        assert found[name] in (*HIDDEN, *REFUSED), name
    assert found["write /var/cache/ingle"] in ("EACCES", "ENOENT")


def test_a_device_that_is_allowed_can_be_opened(box: Any) -> None:
    found = probe(box, "ingle-nursery", "DeviceAllow=/dev/nvidia-fake rw\n")
    assert found["open a device"] != "EPERM"
