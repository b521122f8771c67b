"""For tests of ingle and of what builds on it: a real daemon as a subprocess, in a folder of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_S = 20.0
STOP_S = 60.0


class DaemonFixture:
    """One `ingled` with its own socket, state and configuration; a context manager that leaves nothing behind."""

    def __init__(self, config: str = "", *, engine: str = "echo", environ: dict[str, str] | None = None) -> None:
        """`config` is the text of the TOML file."""
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
        return [sys.executable, "-P", "-m", "ingled", *where, "--engine", self.engine]

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
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise RuntimeError(f"ingled did not stop in {STOP_S} s:\n{self.log.read_text()}") from None

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
            **stdin,  # type: ignore[call-overload]
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
        try:
            self.stop()
        finally:
            self._folder.cleanup()
