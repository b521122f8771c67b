"""For tests of ingle and of what builds on it: a real daemon as a subprocess, in a folder of its own."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingle.wire.codec import pack, unpack
from ingle.zmtp import Dealer

from ingled.remains import remove_waiting

READY_S = 60.0
DEADLINE_S = 60.0
STOP_S = 60.0
LOG_LINES = 40
"""Of the daemon's log, told with whatever ends its `with` block."""


def free_port() -> int:
    """Return a port of the loopback that is free, and stays so: the kernel gives it to nobody who asks for any."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    below = max(1025, min(lowest, 1 << 15))
    for port in random.sample(range(1024, below), below - 1024):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port from 1024 to {below - 1} is free")


class Wire:
    """A client that speaks the protocol message by message, and says hello by itself."""

    def __init__(self, path: Path | str, *, hello: dict[str, Any] | None = None, tags: tuple[str, ...] = ()) -> None:
        """`hello` adds to the greeting or replaces parts of it."""
        self._dealer = Dealer(str(path))
        self._received: deque[dict[str, Any]] = deque()
        self._refs = 0
        greeting = {"t": "hello", "protocol": [1, 1], "client": {"name": "test", "tags": list(tags)}}
        self.send(greeting | (hello or {}))
        self.welcome = self.receive()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._dealer.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.send_bytes(pack(message))

    def send_bytes(self, *frames: bytes) -> None:
        """Send frames as they are, and read while they are not taken: who does not read is not heard."""
        self._dealer.send(*frames)
        while self._dealer.wants_write:
            self._dealer.wait(DEADLINE_S)
            self._dealer.flush()
            self._take_in()

    def receive(self, timeout: float = 60.0) -> dict[str, Any]:
        """Return the next message. Raises TimeoutError when none comes."""
        deadline = time.monotonic() + timeout
        while not self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not self._dealer.wait(left):
                raise TimeoutError(f"no message within {timeout} s")
            self._take_in()
        return self._received.popleft()

    def _take_in(self) -> None:
        self._received.extend(unpack(frames[-1]) for frames in self._dealer.receive())

    def until(self, *kinds: str, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Return the messages up to and with the first of these types."""
        found = [self.receive(timeout)]
        while found[-1]["t"] not in kinds:
            found.append(self.receive(timeout))
        return found

    def ask(self, text: str = "hi", **fields: Any) -> str:
        """Send a chat request; returns its id. Fields of the request and, in `body`, sampling options may be given."""
        self._refs += 1
        body = {"messages": [{"role": "user", "content": text}]} | fields.pop("body", {})
        self.send({"t": "request", "ref": self._refs, "op": "chat", "body": body} | fields)
        answer = self._answer()
        if answer["t"] == "failed":
            raise RuntimeError(answer)
        return str(answer["id"])

    def call(self, verb: str, **args: Any) -> Any:
        """Ask the daemon itself; returns the value. Raises RuntimeError with the `failed` message."""
        self._refs += 1
        self.send({"t": "call", "ref": self._refs, "verb": verb, "args": args})
        answer = self._answer()
        if answer["t"] == "failed":
            raise RuntimeError(answer)
        return answer["value"]

    def _answer(self) -> dict[str, Any]:
        """Return the answer to the last question; what comes before it is kept for later."""
        kept = []
        while (message := self.receive()).get("ref") != self._refs or message["t"] == "progress":
            kept.append(message)
        self._received.extendleft(reversed(kept))
        return message

    def read(self, id: str, *, ack: int = 0) -> tuple[str, dict[str, Any]]:
        """Read a stream to its end, giving credit for each chunk; returns its text from `ack` on and its end.

        What comes of other streams meanwhile is kept for later.
        """
        text = b""
        kept = []
        while True:
            message = self.receive()
            if message.get("id") != id:
                kept.append(message)
            elif message["t"] == "chunk":
                assert message["o"] == ack + len(text), "a chunk is not where the one before ended"
                text += message["x"].encode()
                self.send({"t": "credit", "id": id, "n": 1, "ack": ack + len(text)})
            elif message["t"] in ("done", "failed"):
                self._received.extendleft(reversed(kept))
                return text.decode(), message

    def close(self) -> None:
        """Close the socket without a word, as a client that dies does."""
        self._dealer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DaemonFixture:
    """One `ingled` with its own socket, state and configuration; a context manager that leaves nothing behind."""

    def __init__(
        self,
        config: str = "",
        *,
        engine: str = "echo",
        environ: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        """`config` is the text of the TOML file, `prefix` a command that runs the daemon."""
        self.prefix = prefix
        self._folder = tempfile.TemporaryDirectory(prefix="ingle-")
        self.folder = Path(self._folder.name)
        self.socket = self.folder / "s"
        self.file = self.folder / "ingled.toml"
        self.log = self.folder / "ingled.log"
        self.file.write_text(config, encoding="utf-8")
        self.engine = engine
        self.environ = dict(os.environ) | {"HOME": str(self.folder)} | (environ or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        """Seconds from exec to the socket's first answer."""

    @property
    def command(self) -> list[str]:
        """Return how the daemon is started."""
        state = self.folder / "state"
        where = ["--config", str(self.file), "--socket", str(self.socket), "--state-dir", str(state)]
        return [*self.prefix, sys.executable, "-P", "-m", "ingled", *where, "--engine", self.engine]

    def start(self) -> Self:
        """Start the daemon and wait until its socket answers. Raises RuntimeError with its log when it does not."""
        begin = time.monotonic()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environ, cwd=self.folder
            )
        deadline = begin + READY_S
        while True:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.connect(str(self.socket))
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"ingled did not start:\n{self.log.read_text()}") from None
                time.sleep(0.005)  # nothing to wait on: the socket does not exist yet
        self.started_s = time.monotonic() - begin
        return self

    def stop(self) -> int:
        """End the daemon in its orderly way; returns its exit status. Kills it when it does not end."""
        assert self.process is not None, "not started"
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"ingled did not stop in {STOP_S} s:\n{self.log.read_text()}") from None

    def kill(self) -> None:
        """End the daemon as a crash does; nursery and workers wait for the next one."""
        assert self.process is not None, "not started"
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Stop the daemon, if it runs, and remove its folder; closing twice is fine."""
        try:
            if self.process is not None:
                self.stop()
        finally:
            remove_waiting(Path(f"{self.socket}.d"))  # after a kill, nobody else would find what is linked to
            self._folder.cleanup()

    def processes(self) -> set[int]:
        """Return the process ids of its nursery and workers, whoever their parent is by now."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if f"{self.socket}.d".encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                        found.add(int(entry.name))
        return found

    def cli(
        self, *arguments: str, input: str | None = None, timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run the `ingle` command against this daemon."""
        command = [sys.executable, "-P", "-m", "ingle", *arguments]
        environ = self.environ | {"INGLE_SOCKET": str(self.socket)}
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environ,
            check=False,
            **stdin,
        )

    def json(self, *arguments: str) -> Any:
        """Run an `ingle` command with `--json`; returns what it printed. Raises RuntimeError when it fails."""
        done = self.cli(*arguments, "--json")
        if done.returncode:
            raise RuntimeError(f"ingle {' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.process is not None:
            status = self.process.poll()
            state = "runs" if status is None else f"ended with {status}"
            lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            error.add_note("\n".join([f"ingled {self.process.pid} {state}; its log ends:", *lines]))
        self.close()
