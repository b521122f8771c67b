"""What can be a row of the comparison: how each is started, asked and ended; `bench.rows` lists them.

To add one, write a `Contender` and list it; what speaks OpenAI's HTTP needs little more than its command.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ingled.testing import DaemonFixture, free_port
from ingled.worker.environment import DEFAULTS

from bench.http_line import request
from bench.load import Load, Outcome
from bench.machine import ROOT
from bench.proc import processes, title, tree
from bench.rust_front import NoRustFront, binary, vllm_version
from bench.shapes import NAME, Model
from bench.socket_line import SocketLine

START_S = 900.0
STOP_S = 60.0


def environment(folder: str) -> dict[str, str]:
    """Return the environment of every server: what ingle's nursery sets for vLLM, for all of them."""
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    given = {
        "VLLM_RPC_BASE_PATH": folder,
        "TMPDIR": folder,
        "VLLM_LOGGING_LEVEL": "WARNING",
        "OMP_NUM_THREADS": threads,
    }
    return DEFAULTS | given | dict(os.environ)


def ingle_environment() -> dict[str, str]:
    """Return what a daemon's environment needs beside: its home is a fresh folder, and vLLM's cache must not be."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT") or f"{cache}/vllm", "PYTHONPATH": path}


class Contender(ABC):
    """One row: a server that runs the model, or what stands in for one."""

    name: str
    most: int | None = None
    """Requests at a time above which it is not measured."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def absent(cls) -> str:
        """Return why it cannot be measured on this machine, and what to do about that; nothing when it can."""
        return ""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it can answer. Raises RuntimeError with its log."""

    @abstractmethod
    def measure(self, load: Load) -> Outcome:
        """Run a load against it."""

    @abstractmethod
    def stop(self) -> None:
        """End it with all its processes; does nothing when it does not run."""


def run_client(load: Load, parts: dict[str, list[int]], where: dict[str, Any], model: str = NAME) -> Outcome:
    """Run the load generator as a process of its own. Raises RuntimeError with what it said."""
    told = json.dumps(where | {"model": model, "load": load.plain(), "parts": parts}) + "\n"
    command = [sys.executable, "-m", "bench.client"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"the client failed: {done.stderr[-2000:]}")
    return Outcome(**json.loads(done.stdout))


class Child(Contender):
    """A contender that is a process group of its own, with a log."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._log: IO[str] | None = None

    @property
    def folder(self) -> "tempfile.TemporaryDirectory[str]":
        """Return its folder, which goes when it stops."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="igb-")
        return self._folder

    def _spawn(self, command: list[str], more: dict[str, str]) -> "subprocess.Popen[str]":
        self._log = Path(self.folder.name, "log").open("w+")  # noqa: SIM115  (until `stop`)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if isinstance(self, Raw) else self._log,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=environment(self.folder.name) | more,
            start_new_session=True,
        )
        return self._process

    def _failed(self, what: str) -> RuntimeError:
        assert self._log is not None
        self._log.flush()
        return RuntimeError(f"{self.name}: {what}\n{Path(self._log.name).read_text()[-3000:]}")

    def stop(self) -> None:
        """End the group."""
        if self._process is None or self._folder is None or self._log is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind
        process.wait()
        for pipe in (process.stdin, process.stdout, self._log):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()
        self._folder = None


class Raw(Child):
    """AsyncLLM in one process."""

    name = "raw AsyncLLM"

    def start(self) -> None:
        """Start the process and wait for its word."""
        told = json.dumps({"folder": str(self.model.folder), "options": self.model.options})
        process = self._spawn([sys.executable, "-m", "bench.raw", told], {})
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise self._failed("it did not start")

    def measure(self, load: Load) -> Outcome:
        """Hand it the load."""
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(load.plain()) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise self._failed("it has ended")
        return Outcome(**json.loads(line))


class Ingle(Contender):
    """The daemon over its socket: a connection for each request at a time, as HTTP's clients have."""

    name = "ingle"
    front = "auto"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._daemon: DaemonFixture | None = None

    def environment(self) -> dict[str, str]:
        """Return what its environment has beside."""
        return ingle_environment()

    def start(self) -> None:
        """Start the daemon and load the model."""
        kind = DummyDaemon if self.model.dummy else DaemonFixture
        profile = f'{self.model.profile()}front = "{self.front}"\n'
        self._daemon = kind(profile, engine="vllm", environ=self.environment())
        self._daemon.start()
        line = SocketLine(str(self._daemon.socket))
        line.call("load", model=NAME)
        line.close()

    def parts(self) -> dict[str, list[int]]:
        """Return its processes."""
        assert self._daemon is not None and self._daemon.process is not None
        line = SocketLine(str(self._daemon.socket))
        nursery = line.call("status")["nursery"]["pid"]
        worker = line.call("show", model=NAME)["pid"]
        line.close()
        return {"broker": [self._daemon.process.pid], "nursery": [nursery], "worker": [worker]}

    def measure(self, load: Load) -> Outcome:
        """Run the client."""
        assert self._daemon is not None
        return run_client(load, self.parts(), {"socket": str(self._daemon.socket)})

    def stop(self) -> None:
        """End the daemon and what belongs to it."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.close()


class IngleAsync(Ingle):
    """The daemon, with a worker that asks vLLM through `AsyncLLM` (`front = "async"`)."""

    name = "ingle, AsyncLLM"
    front = "async"


class IngleBefore(Ingle):
    """The daemon of another checkout, such as one of an earlier commit: what a change has brought, in one run."""

    name = "ingle, before"
    checkout = os.path.abspath(os.environ["INGLE_BENCH_BEFORE"]) if "INGLE_BENCH_BEFORE" in os.environ else ""

    @classmethod
    def absent(cls) -> str:
        """Return what has to be said."""
        return "" if cls.checkout else "INGLE_BENCH_BEFORE is to name another checkout (git worktree add)"

    def environment(self) -> dict[str, str]:
        """Return what makes Python find that one first."""
        parts = [str(Path(self.checkout, part)) for part in ("client", "daemon", "plugins", ".")]
        return ingle_environment() | {"PYTHONPATH": os.pathsep.join(parts)}


class DummyDaemon(DaemonFixture):
    """A daemon whose models need no weights."""

    @property
    def command(self) -> list[str]:
        """Return how it is started."""
        return ["bench.dummy_daemon" if word == "ingled" else word for word in super().command]


class Http(Child):
    """A server that speaks OpenAI's HTTP."""

    health = "/health"
    tells_usage = True
    """Whether the end of a stream says how many tokens there were."""
    more: Mapping[str, Any] = {}
    """Fields that a request needs beside."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._port = 0

    def start(self) -> None:
        """Start the server and wait until it is healthy."""
        self._port = free_port()
        process = self._spawn(self.command(self._port), self.environment())
        deadline = time.monotonic() + START_S
        while not self._healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                raise self._failed("it did not start")
            time.sleep(0.2)

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Return how the server is started."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return what it needs beside what all servers get."""

    def parts(self) -> dict[str, list[int]]:
        """Return its processes."""
        assert self._process is not None
        return {"server": [self._process.pid]}

    def measure(self, load: Load) -> Outcome:
        """Run the client."""
        where = {"http": self._port, "more": dict(self.more), "tells_usage": self.tells_usage}
        return run_client(load, self.parts(), where)

    def answer(self, prompt: str, tokens: int) -> str:
        """Return a whole greedy answer, for a comparison."""
        head, _, body = request(NAME, prompt, tokens, False, self.more).partition(b"\r\n\r\n")
        asked = urllib.request.Request(f"http://127.0.0.1:{self._port}{head.split()[1].decode()}", body)
        asked.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(asked, timeout=START_S) as answer:
            return str(json.load(answer)["choices"][0]["message"]["content"])

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{self.health}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Serve(Http):
    """`vllm serve` with its front end in Python."""

    name = "vllm serve"

    def command(self, port: int) -> list[str]:
        """Return how the server is started."""
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(self.model.folder)]
        command += ["--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
        return [*command, "--disable-uvicorn-access-log", "--disable-log-stats", *flags(self.model.options)]

    def environment(self) -> dict[str, str]:
        """Return what makes the command find its own version."""
        stub = Path(self.folder.name, "stub")
        stub.mkdir()
        write_stub(stub)
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(stub), os.environ.get("PYTHONPATH"))))}


class RustServe(Serve):
    """`vllm serve` with its front end in Rust."""

    name = "vllm serve, Rust"

    @classmethod
    def absent(cls) -> str:
        """Return why the binary cannot be had."""
        try:
            binary()
        except NoRustFront as error:
            return str(error)
        return ""

    def environment(self) -> dict[str, str]:
        """Choose the front end."""
        return super().environment() | {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(binary())}

    def parts(self) -> dict[str, list[int]]:
        """Return its processes. Raises RuntimeError when the Rust front end does not run."""
        assert self._process is not None
        children = tree([self._process.pid], processes())
        rust = [child.pid for child in children if "vllm-rs" in title(child.pid).split(" ")[0]]
        if not rust:
            raise RuntimeError("vllm serve runs without its Rust front end")
        return {"supervisor": [self._process.pid], "vllm-rs": rust}


def flags(options: dict[str, Any]) -> list[str]:
    """Return options of `AsyncEngineArgs` as those of the command."""
    found = []
    for key, value in options.items():
        name = key.replace("_", "-")
        match value:
            case True:
                found.append(f"--{name}")
            case False:
                found.append(f"--no-{name}")
            case _:
                found.append(f"--{name}={value}")
    return found


def write_stub(folder: Path) -> None:
    """Give vLLM's command the distribution `vllm` that it asks for its version: the CPU build has another name."""
    if vllm_is_named():
        return
    info = folder / f"vllm-{vllm_version()}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {vllm_version()}+cpu\n")


def vllm_is_named() -> bool:
    """Return whether vLLM is installed under its own name."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("vllm")
    except PackageNotFoundError:
        return False
    return True
