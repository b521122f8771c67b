"""The daemon as a systemd service: readiness, watchdog and inherited sockets (sd_notify(3), sd_listen_fds(3)).

Outside systemd every call does nothing. Written out here so that an installation needs no systemd headers.
"""

import os
import socket
from collections.abc import MutableMapping

FIRST_FD = 3


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Tell the service manager; returns whether there is one that took it."""
    address = environ.get("NOTIFY_SOCKET")
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


def inherited_sockets(environ: MutableMapping[str, str] = os.environ) -> list[int]:
    """Return the listening descriptors that the service manager passed, non-blocking and not inheritable."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    del environ["LISTEN_PID"]
    count = int(environ.pop("LISTEN_FDS", "0"))
    environ.pop("LISTEN_FDNAMES", None)
    for fd in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
    return list(range(FIRST_FD, FIRST_FD + count))


def watchdog_interval(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Return the seconds between watchdog messages, a third of what the manager waits for; None without one."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 1e6 / 3
