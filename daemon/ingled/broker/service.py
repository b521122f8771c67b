"""The daemon as a systemd service: readiness, watchdog and inherited sockets (sd_notify(3), sd_listen_fds(3)).

Outside systemd every call does nothing. systemd's own library is used where it is installed (`pip install
'ingle[systemd]'`); what is written out here does the same, so that an installation needs no systemd headers.
"""

import os
import socket
import time
from typing import Any

try:
    from systemd import daemon as _systemd
except ImportError:
    _systemd = None
systemd: Any = _systemd

FIRST_FD = 3
EXTEND_S = 30.0
"""What `extend` asks for, in seconds: to be said again before they are over."""


def notify(*lines: str) -> bool:
    """Tell the service manager, such as `READY=1`; returns whether there is one that took it."""
    state = "\n".join(lines)
    if systemd is not None:
        try:
            return bool(systemd.notify(state))
        except OSError:
            return False
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        return False
    return True


def status(text: str) -> None:
    """Show this text in `systemctl status`."""
    notify(f"STATUS={text}")


def extend() -> None:
    """Have the manager wait `EXTEND_S` more for the start or the stop that is under way."""
    notify(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}")


def reloading() -> None:
    """Say that the configuration is being read; `READY=1` says that this is over."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def inherited_sockets() -> dict[int, str]:
    """Return the descriptors that the service manager passed and their names; non-blocking, and not inheritable."""
    found = _listen_fds()
    for fd in found:
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
    return found


def _listen_fds() -> dict[int, str]:
    if systemd is not None:
        try:
            found = systemd.listen_fds_with_names()
        except OSError:  # none, or what is no number
            found = {}
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # the library clears the environment behind Python's back
        return {int(fd): str(name) for fd, name in found.items()}
    given = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given["LISTEN_PID"] != str(os.getpid()) or not given["LISTEN_FDS"].isdigit():
        return {}
    count, names = int(given["LISTEN_FDS"]), given["LISTEN_FDNAMES"].split(":")
    return {FIRST_FD + i: names[i] if i < len(names) and names[i] else "unknown" for i in range(count)}


def watchdog_s() -> float | None:
    """Return the seconds that the manager's watchdog waits for `WATCHDOG=1`; None without one."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or usec == "0" or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 1e6
