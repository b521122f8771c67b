"""A hook host as a real process, plugins as files, and a broker played by the test."""

import contextlib
import os
import signal
import struct
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ingle.wire.hook_schema import HookCall, HookReply
from ingled import link
from ingled.testing_link import LinkBroker, start_host

ABOUT: dict[str, Any] = {
    "account": "uid:1000", "model": "m", "op": "chat", "stream": True, "client": "test", "tags": ["shell"],
    "context": [{"kind": "file", "name": "a", "text": "b"}],
}  # fmt: skip


@dataclass
class Bench:
    """A broker's double and the host that has attached to it."""

    runtime: Path
    broker: LinkBroker
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    peer: bytes = b""
    number: int = 0
    replies: dict[int, HookReply] = field(default_factory=dict)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.processes[-1]

    def write(self, name: str, text: str) -> Path:
        """Write a plugin into the folder."""
        path = self.folder / f"{name}.py"
        path.write_text("from ingled.hooks import *\n" + textwrap.dedent(text))
        return path

    def start(self, **setup: Any) -> dict[str, link.Plugin]:
        """Start a host; returns what it tells of its plugins, by name."""
        self.processes.append(start_host(self.runtime))
        self.peer, attach = self.broker.wait(link.Attach)
        assert (attach.role, attach.pid, attach.setup) == ("host", self.process.pid, None)
        self.broker.send(self.peer, link.Setup(**{"plugins": {}, "folder": str(self.folder)} | setup))
        return {plugin.name: plugin for plugin in self.broker.wait(link.Offers)[1].plugins}

    def call(self, point: Any, hooks: list[str], value: dict[str, Any], **more: Any) -> int:
        """Send a call; returns its number."""
        self.number += 1
        about = ABOUT | more.pop("about", {})
        call = HookCall(
            more.pop("call", self.number), point, hooks, {"call": about, **value}, more.pop("id", "r"), **more
        )
        self.broker.send(self.peer, link.HookCalls([call]))
        return call.call

    def reply(self, number: int, timeout: float = 10) -> HookReply:
        """Return the reply to a call."""
        while number not in self.replies:
            for reply in self.broker.wait(link.HookReplies, timeout)[1].replies:
                self.replies[reply.call] = reply
        return self.replies.pop(number)

    def ask(self, point: Any, hooks: list[str], value: dict[str, Any], **more: Any) -> HookReply:
        """Send a call and return its reply."""
        return self.reply(self.call(point, hooks, value, **more))

    def prompt(self, *hooks: str, text: str = "hello", **more: Any) -> HookReply:
        """Send a call at `prompt` and return its reply."""
        return self.ask("prompt", list(hooks), {"messages": [{"role": "user", "content": text}]}, **more)

    def table(self) -> list[tuple[int, int, int]]:
        """Return what the threads of the host are at."""
        data = link.host_table(self.runtime, self.process.pid).read_bytes()
        return [slot for slot in struct.iter_unpack("<QII", data) if slot[0]]

    def log(self) -> str:
        return (self.runtime / "logs" / "hooks.log").read_text()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="ig") as name:
        folder = Path(name, "plugins")
        folder.mkdir()
        with LinkBroker(Path(name)) as broker:
            bench = Bench(Path(name), broker, folder)
            yield bench
            for process in bench.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
