"""With systemd's Python library and without it, the daemon says and hears the same of manager and journal."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WAYS = ("with", "without")

PROGRAM = """
import json, os, sys
if sys.argv[1] == "without":
    sys.modules["systemd"] = None
from ingled import journal
from ingled.broker import service
assert (service.systemd is not None) == (journal.systemd is not None) == (sys.argv[1] == "with"), service.systemd
"""

MANAGED = (
    PROGRAM
    + """
found = service.inherited_sockets()
told = [service.notify("READY=1", "STATUS=zwei \\u00e4"), service.notify("WATCHDOG=1")]
service.status("loading 5%")
service.extend()
service.reloading()
print(json.dumps({
    "sockets": found,
    "a second time": service.inherited_sockets(),
    "blocking": [os.get_blocking(fd) for fd in found],
    "inheritable": [os.get_inheritable(fd) for fd in found],
    "left": sorted(name for name in os.environ if name.startswith("LISTEN_")),
    "told": told,
    "watchdog": service.watchdog_s(),
}))
"""
)

LAUNCH = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i, inheritable=True)
for name in ("LISTEN_PID", "WATCHDOG_PID"):
    if os.environ.get(name) == "self":
        os.environ[name] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def managed(way: str, library: Path, environ: dict[str, str], sockets: int = 0) -> tuple[dict[str, Any], str]:
    """Run the program as a service manager would; returns what it found, and its errors."""
    listening = [socket.socket(socket.AF_UNIX) for _ in range(sockets)]
    high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 100) for one in listening]  # above those that they are to be
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(library)]))
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "NOTIFY", "WATCHDOG"))
    }
    command = [sys.executable, "-c", LAUNCH, ",".join(map(str, high)), sys.executable, "-c", MANAGED, way]
    done = subprocess.run(
        command, pass_fds=high, env=clean | {"PYTHONPATH": path} | environ, capture_output=True, text=True, check=False
    )
    for fd in high:
        os.close(fd)
    for one in listening:
        one.close()
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


def messages(receiver: socket.socket) -> list[str]:
    """Return what the manager was told; the clock's value is taken out."""
    found = []
    receiver.setblocking(False)
    while True:
        try:
            text = receiver.recv(4096).decode()
        except BlockingIOError:
            return found
        lines = ["MONOTONIC_USEC=…" if line.startswith("MONOTONIC_USEC=") else line for line in text.splitlines()]
        found.append("\n".join(lines))


@pytest.mark.parametrize("kind", ["path", "abstract"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_manager_gives_is_found_and_what_it_is_told_arrives(
    way: str, kind: str, systemd_python: Path, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@ingle-{os.getpid()}-{way}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0"))
        environ = {
            "NOTIFY_SOCKET": address,
            "LISTEN_PID": "self",
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "ingle:other",
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": "self",
        }
        found, _ = managed(way, systemd_python, environ, sockets=2)
        told = messages(receiver)
    assert found == {
        "sockets": {"3": "ingle", "4": "other"},
        "a second time": {},
        "blocking": [False, False],
        "inheritable": [False, False],
        "left": [],
        "told": [True, True],
        "watchdog": 3.0,
    }
    assert told == [
        "READY=1\nSTATUS=zwei ä",
        "WATCHDOG=1",
        "STATUS=loading 5%",
        "EXTEND_TIMEOUT_USEC=30000000",
        "RELOADING=1\nMONOTONIC_USEC=…",
    ]


@pytest.mark.parametrize(
    ("environ", "sockets", "expected"),
    [
        ({}, 0, {}),
        ({"LISTEN_PID": "self", "LISTEN_FDS": "1"}, 1, {"3": "unknown"}),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 1, {}),
        ({"LISTEN_PID": "self", "LISTEN_FDS": "0"}, 0, {}),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_sockets_that_are_not_for_us_are_left_alone(
    way: str, environ: dict[str, str], sockets: int, expected: dict[str, str], systemd_python: Path
) -> None:
    assert managed(way, systemd_python, environ, sockets)[0]["sockets"] == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("address", [None, "/nowhere/at/all"])
def test_without_a_manager_that_listens_nothing_is_told_and_nothing_breaks(
    way: str, address: str | None, systemd_python: Path
) -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"} | ({"NOTIFY_SOCKET": address} if address else {})
    found, errors = managed(way, systemd_python, environ)
    assert (found["told"], found["watchdog"], errors) == ([False, False], None, "")


ENTRIES = (
    PROGRAM
    + """
import logging
assert journal.connected()
journal.configure("debug", "ingle-test")
log = logging.getLogger("ingled.some")
log.info("one %s", sys.argv[2], extra=journal.about(model="m", request="r", account="uid:7", hook="h"))
log.error("two\\nlines \\u00e4 " + sys.argv[2])
log.debug("x" * 100_000 + sys.argv[2])
logging.getLogger("others").debug("of others nothing at this level " + sys.argv[2])
try:
    raise ValueError("the words of an exception")
except ValueError:
    log.exception("three " + sys.argv[2])
"""
)
TAKEN = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER", "REQUEST_ID", "MODEL", "ACCOUNT", "HOOK", "CODE_FUNC")


@pytest.mark.slow
def test_the_journal_has_the_same_entries_both_ways(box: Any, systemd_python: Path) -> None:
    shutil.copytree(systemd_python / "systemd", box.folder / "library/systemd", dirs_exist_ok=True)
    found = {}
    for way in WAYS:
        mark = f"mark-{way}"
        run = ["systemd-run", "--wait", "--quiet", "--collect", f"--setenv=PYTHONPATH={box.folder}/library"]
        box.run(*run, "/usr/local/lib/ingle/bin/python", "-P", "-c", ENTRIES, way, mark)
        box.run("journalctl", "--sync")
        lines = box.out("journalctl", "-o", "json", "--all", "-t", "ingle-test", "--no-pager").splitlines()
        entries = [json.loads(line) for line in lines]
        found[way] = [
            {name: str(entry.get(name)).replace(mark, "MARK") for name in TAKEN}
            for entry in entries
            if mark in str(entry)
        ]
    assert found["with"] == found["without"]
    first, second, long, third = found["with"]
    assert first == {
        "MESSAGE": "one MARK",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "ingle-test",
        "LOGGER": "ingled.some",
        "REQUEST_ID": "r",
        "MODEL": "m",
        "ACCOUNT": "uid:7",
        "HOOK": "h",
        "CODE_FUNC": "<module>",
    }
    assert (second["MESSAGE"], second["PRIORITY"]) == ("two\nlines ä MARK", "3")
    assert (long["MESSAGE"], long["PRIORITY"]) == ("x" * (48 << 10), "7"), "it is cut, so that one datagram takes it"
    assert third["MESSAGE"].splitlines()[0] == "three MARK"
    assert third["MESSAGE"].splitlines()[-1] == "ValueError", "the words of an exception may quote a prompt"
