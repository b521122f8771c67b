"""Runs inside a unit's sandbox, as its ExecStartPre: tries what a service should not be able to do.

`probe.py FILE` writes a JSON object to FILE: the name of each try, and `ok` or the name of the error.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
PTRACE_TRACEME = 0


def outcome(what: Callable[[], object]) -> str:
    try:
        what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def call(name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def write(path: str) -> None:
    Path(path).write_text("x")
    os.unlink(path)


def loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass


def outside() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))
        one.send(b"x")


def ask() -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/run/ingle/ingle.sock")


def setuid_file() -> None:
    path = os.path.join(os.path.dirname(sys.argv[1]), "setuid")
    Path(path).write_text("x")
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)


TRIES: dict[str, Callable[[], object]] = {
    "read a home": lambda: os.listdir("/home/ann"),
    "write /etc": lambda: write("/etc/ingle/x"),
    "write the program": lambda: write("/usr/local/lib/ingle/x"),
    "write /var/lib/ingle": lambda: write("/var/lib/ingle/x"),
    "write /var/cache/ingle": lambda: write("/var/cache/ingle/x"),
    "write /run/ingle": lambda: write("/run/ingle/x"),
    "write /run/ingle-hooks": lambda: write("/run/ingle-hooks/x"),
    "write /var/lib/ingle-hooks": lambda: write("/var/lib/ingle-hooks/x"),
    "read /var/lib/ingle": lambda: os.listdir("/var/lib/ingle"),
    "read /run/ingle/ingle.sock.d": lambda: os.listdir("/run/ingle/ingle.sock.d"),
    "ask as a client": ask,
    "signal the broker": lambda: os.kill(int(os.environ.get("BROKER", str(os.getpid()))), 0),
    "see others' /tmp": lambda: os.stat("/tmp/of-others"),
    "open a device": lambda: os.close(os.open("/dev/nvidia-fake", os.O_RDWR)),
    "write a kernel setting": lambda: Path("/proc/sys/kernel/domainname").write_text("x"),
    "loopback": loopback,
    "the network outside": outside,
    "raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "memory that is written and run": lambda: mmap.mmap(-1, 4096, prot=7).close(),
    "a user namespace": lambda: call("unshare", CLONE_NEWUSER),
    "trace a process": lambda: call("ptrace", PTRACE_TRACEME, 0, 0, 0),
    "mount": lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "a setuid file": setuid_file,
    "become root": lambda: os.setuid(0),
}

if __name__ == "__main__":
    found = {name: outcome(what) for name, what in TRIES.items()}
    found["interfaces"] = " ".join(sorted(name for name in os.listdir("/sys/class/net")))
    Path(sys.argv[1]).write_text(json.dumps(found))
