"""A broker's end of the private link, played by a test: real socket, real messages, no broker."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import zmq

from ingled import link

M = TypeVar("M", bound=link.FromPeer)

SECRET = "c0ffee"


class LinkBroker:
    """Listens on the private socket of a runtime folder and answers as told."""

    def __init__(self, runtime: Path, grace: float = 30.0) -> None:
        self.runtime = runtime
        self.grace = grace
        self.answers = True
        """Give leases; a test turns it off to be a broker that is gone."""
        self.seen: list[tuple[bytes, link.FromPeer]] = []
        """All messages with their sender, in order; `Alive` is left out."""
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        (runtime / link.SECRET_FILE).write_text(SECRET)
        self._context = zmq.Context(1)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_mandatory = True
        self._socket.set_hwm(0)
        path = runtime / link.SOCKET_FILE
        path.unlink(missing_ok=True)
        self._socket.bind(f"ipc://{path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Go, as a broker that dies; closing twice is fine."""
        self._socket.close()
        self._context.term()

    def send(self, peer: bytes, message: link.ToPeer) -> None:
        """Send one message."""
        self._socket.send_multipart([peer, link.encode(message)])

    def pump(self, timeout: float) -> tuple[bytes, link.FromPeer] | None:
        """Return the next message that is no `Alive`, or None when time is up; gives the leases meanwhile."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if not self._socket.poll(int(left * 1000) + 1):
                return None
            peer, data = self._socket.recv_multipart()
            message = link.decode_from_peer(data)
            if isinstance(message, link.Attach | link.Alive) and self.answers:
                with contextlib.suppress(zmq.ZMQError):  # it has gone meanwhile
                    self.send(peer, link.Lease(self.grace))
            if not isinstance(message, link.Alive):
                self.seen.append((peer, message))
                return peer, message
        return None

    def pump_unknown(self, timeout: float = 30.0) -> bytes:
        """Return the first sender of anything, as a broker that has just started."""
        if not self._socket.poll(int(timeout * 1000)):
            raise TimeoutError(f"nobody in {timeout} s")
        sender: bytes = self._socket.recv_multipart()[0]
        return sender

    def wait(self, kind: type[M], timeout: float = 30.0, *, peer: bytes | None = None) -> tuple[bytes, M]:
        """Return the next message of this kind (from this peer); what comes before it stays in `seen`."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if (got := self.pump(left)) is None:
                break
            if isinstance(got[1], kind) and peer in (None, got[0]):
                return got[0], got[1]
        raise TimeoutError(f"no {kind.__name__} in {timeout} s; seen: {[message for _, message in self.seen][-10:]}")

    def quiet(self, seconds: float) -> None:
        """Fail when anything but the news of the engine's load arrives for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if (got := self.pump(left)) and not isinstance(got[1], link.Stats):
                raise AssertionError(f"unexpected: {got[1]}")


WORKER = """
import sys, pathlib, msgspec
from ingled import link
from ingled.worker.serve import serve
runtime, spec = pathlib.Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=link.Spec)
folder = runtime / "workers" / "w"
folder.mkdir(parents=True)
sys.exit(serve(runtime, spec, folder, runtime / "worker.log"))
"""


def start_worker(runtime: Path, spec: link.Spec) -> subprocess.Popen[bytes]:
    """Start a worker without a nursery, in a session of its own; its output goes to `worker.log`."""
    with (runtime / "worker.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(runtime), msgspec.json.encode(spec).decode()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def start_nursery(runtime: Path, engine: str) -> subprocess.Popen[bytes]:
    """Start a nursery as the broker does; its output goes to `logs/nursery.log`."""
    (runtime / "logs").mkdir(mode=0o700, exist_ok=True)
    with (runtime / "logs" / "nursery.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "ingled.nursery", "--runtime", str(runtime), "--engine", engine],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def start_host(runtime: Path, name: str = "main") -> subprocess.Popen[bytes]:
    """Start a hook host as the broker does; its output goes to `logs/hooks.log`."""
    (runtime / "logs").mkdir(mode=0o700, exist_ok=True)
    with (runtime / "logs" / "hooks.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ingled.hooks", "--runtime", str(runtime), "--name", name],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def group_members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(pgrp) == group and state not in "ZX":
                    found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], object], timeout: float = 30.0) -> None:
    """Return when the condition holds; for what no descriptor tells, such as a process of somebody else's."""
    until = time.monotonic() + timeout
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"not true after {timeout} s")
        time.sleep(0.01)
