"""A broker's end of the private link, played by a test: real socket, real messages, no broker."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import zmq
from ingle.wire.hook_schema import HookCall, HookReply, Point

from ingled import link, processes

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
            if not data:  # ZMQ_PROBE_ROUTER: a worker has connected
                continue
            message = link.decode_from_peer(data)
            if isinstance(message, link.Attach | link.Alive) and self.answers:
                with contextlib.suppress(zmq.ZMQError):  # it has gone meanwhile
                    self.send(peer, link.Lease(self.grace))
            if not isinstance(message, link.Alive):
                self.seen.append((peer, message))
                return peer, message
        return None

    def pump_unknown(self, timeout: float = 90.0) -> bytes:
        """Return the first sender of anything, as a broker that has just started."""
        if not self._socket.poll(int(timeout * 1000)):
            raise TimeoutError(f"nobody in {timeout} s")
        sender: bytes = self._socket.recv_multipart()[0]
        return sender

    def wait(self, kind: type[M], timeout: float = 90.0, *, peer: bytes | None = None) -> tuple[bytes, M]:
        """Return the next message of this kind (from this peer); what comes before it stays in `seen`."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if (got := self.pump(left)) is None:
                break
            if isinstance(got[1], kind) and peer in (None, got[0]):
                return got[0], got[1]
        raise TimeoutError(f"no {kind.__name__} in {timeout} s; seen: {[message for _, message in self.seen][-10:]}")

    def beats(self, seconds: float) -> int:
        """Return how often a peer says in so many seconds that it lives; other messages are lost."""
        found = 0
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._socket.poll(int(left * 1000) + 1):
            peer, data = self._socket.recv_multipart()
            if data and isinstance(link.decode_from_peer(data), link.Alive):
                found += 1
                self.send(peer, link.Lease(self.grace))
        return found

    def wait_for_beats(self, number: int, timeout: float = 60.0) -> None:
        """Return when a peer has said so often from now on that it lives; other messages are lost."""
        until = time.monotonic() + timeout
        while number > 0:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError(f"{number} signs of life are missing after {timeout} s")
            number -= self.beats(min(left, 0.1))

    def quiet(self, seconds: float) -> None:
        """Fail when anything but news of the engine's load and places arrives for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if (got := self.pump(left)) and not isinstance(got[1], link.Stats | link.Freed):
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
    return processes.start_host(runtime, name)


ABOUT: dict[str, Any] = {
    "account": "uid:1000",
    "model": "m",
    "op": "chat",
    "stream": True,
    "client": "test",
    "tags": ["shell"],
    "context": [{"kind": "file", "name": "a", "text": "b"}],
}
"""What hooks are told of a request."""


@dataclass
class HostBench:
    """A hook host with plugins in a folder, and the double of the broker that it serves."""

    runtime: Path
    broker: LinkBroker
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    peer: bytes = b""
    number: int = 0
    replies: dict[int, HookReply] = field(default_factory=dict)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Return the host that was started last."""
        return self.processes[-1]

    def write(self, name: str, text: str) -> Path:
        """Write a plugin into the folder; it has all of `ingled.hooks` in its names."""
        path = self.folder / f"{name}.py"
        path.write_text("from ingled.hooks import *\n" + textwrap.dedent(text))
        return path

    def begin(self, **setup: Any) -> None:
        """Start a host and tell it what to run."""
        self.processes.append(start_host(self.runtime))
        self.peer, attach = self.broker.wait(link.Attach)
        assert (attach.role, attach.pid, attach.setup) == ("host", self.process.pid, None)
        self.broker.send(self.peer, link.Setup(**{"plugins": {}, "folder": str(self.folder)} | setup))

    def start(self, **setup: Any) -> dict[str, link.Plugin]:
        """Start a host; returns what it tells of its plugins, by name."""
        self.begin(**setup)
        return {plugin.name: plugin for plugin in self.broker.wait(link.Offers)[1].plugins}

    def call(self, point: Point, hooks: list[str], value: dict[str, Any], **more: Any) -> int:
        """Send a call; returns its number. `about` changes what hooks are told of the request."""
        self.number += 1
        value = {"call": ABOUT | more.pop("about", {}), **value}
        number, id = more.pop("call", self.number), more.pop("id", "r")
        self.broker.send(self.peer, link.HookCalls([HookCall(number, point, hooks, value, id, **more)]))
        return int(number)

    def reply(self, number: int, timeout: float = 60) -> HookReply:
        """Return the reply to a call."""
        while number not in self.replies:
            for reply in self.broker.wait(link.HookReplies, timeout)[1].replies:
                self.replies[reply.call] = reply
        return self.replies.pop(number)

    def ask(self, point: Point, hooks: list[str], value: dict[str, Any], **more: Any) -> HookReply:
        """Send a call and return its reply."""
        return self.reply(self.call(point, hooks, value, **more))

    def prompt(self, *hooks: str, text: str = "hello", **more: Any) -> HookReply:
        """Send a call at `prompt` and return its reply."""
        return self.ask("prompt", list(hooks), {"messages": [{"role": "user", "content": text}]}, **more)

    def table(self) -> list[tuple[int, int, int]]:
        """Return what the threads of the host are at: call, hook, thread."""
        data = link.host_table(self.runtime, self.process.pid).read_bytes()
        return [slot for slot in struct.iter_unpack("<QII", data) if slot[0]]

    def log(self) -> str:
        """Return what the hosts have written."""
        return (self.runtime / "logs" / "hooks.log").read_text()

    def end(self) -> None:
        """Kill the hosts."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


def group_members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _group(pid) == group]


def lives(pid: int) -> bool:
    """Return whether a process has not ended; one whose parent has not asked how it ended has ended too."""
    return _group(pid) is not None


def _group(pid: int) -> int | None:
    """Return the process group of a living process."""
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state in "ZX" else int(group)


def wait_until(true: Callable[[], object], timeout: float = 90.0) -> None:
    """Return when the condition holds; for what no descriptor tells, such as a process of somebody else's."""
    until = time.monotonic() + timeout
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"not true after {timeout} s")
        time.sleep(0.01)
