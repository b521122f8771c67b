"""A daemon with models of random weights under names, and one who asks it: what the steps of the GPU check share."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ingle import Client
from ingled.testing import DaemonFixture, Wire

from bench.contenders import DummyDaemon, ingle_environment
from bench.proc import is_core, processes, tree
from bench.shapes import Model, make

PATIENCE_S = 300.0
GRACE_S = 3
PROMPT = "THE LAMP NEAR THE RIVER"
SEQUENCES = 16
LONG = 2048
"""Tokens of an answer under which something else happens: seconds, on every machine."""


@dataclass(frozen=True)
class Place:
    """Where a step runs, and how large it is there."""

    on_gpu: bool
    small: str
    middle: str
    large: str
    kv_bytes: int
    cycles: int
    """Of sleeping and waking, at each level."""
    tokens: int
    """Of an answer."""
    loads: tuple[tuple[int, int], ...]
    """Requests at a time, and how many there are."""
    rounds: int

    def model(self, shape: str, folder: Path, *, eager: bool = True) -> Model:
        """Write a model without weights; CUDA graphs cost time, and matter only where speed is looked at."""
        return make(shape, folder, SEQUENCES, eager=eager or not self.on_gpu, kv_bytes=self.kv_bytes)


GPU = Place(True, "0.5b", "1b", "8b", 4 << 30, 20, 256, ((1, 8), (64, 256), (256, 512), (1024, 2048)), 2)
CPU = Place(False, "2m", "2m", "2m", 64 << 20, 1, 64, ((1, 2), (4, 8)), 1)


class House:
    """A daemon with these models; a context manager that leaves nothing behind."""

    def __init__(self, models: Mapping[str, Model], engine: str = "vllm", more: str = "") -> None:
        """`more` is added to every profile."""
        self._models, self._more = models, more
        self._memory: int | None = None
        kind = DummyDaemon if any(model.dummy for model in models.values()) else DaemonFixture
        self.daemon = kind(self._config(), engine=engine, environ=ingle_environment())
        self._wire: Wire | None = None

    def _config(self) -> str:
        memory = "" if self._memory is None else f"memory = {self._memory}\n"
        head = f"[daemon]\nadopt_grace = {GRACE_S}\nstuck = 30\n{memory}\n"
        return head + "\n".join(model.profile(name) + self._more for name, model in self._models.items())

    def __enter__(self) -> Self:
        self.daemon.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        self.daemon.close()

    @property
    def wire(self) -> Wire:
        """Return a connection for questions."""
        if self._wire is None:
            self._wire = Wire(self.daemon.socket)
        return self._wire

    def forget(self) -> None:
        """Close the connection: the broker at its other end goes."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def client(self) -> Client:
        """Return a client that comes back by itself when the broker is another one."""
        return Client(str(self.daemon.socket), timeout=PATIENCE_S)

    # ------------------------------------------------------------ what is asked

    def show(self, name: str) -> dict[str, Any]:
        """Return what is known of a model."""
        return dict(self.wire.call("show", model=name))

    def listed(self, name: str) -> dict[str, Any]:
        """Return what `ingle ps` says of a model."""
        found: dict[str, Any] = next(one for one in self.daemon.json("ps")["models"] if one["name"] == name)
        return found

    def load(self, name: str) -> float:
        """Load a model by the command; returns the seconds. Raises RuntimeError with what it says."""
        begin = time.monotonic()
        done = self.daemon.cli("load", name, timeout=PATIENCE_S)
        if done.returncode:
            raise RuntimeError(f"ingle load {name}: exit {done.returncode}: {done.stderr.strip()}\n{self.log(name)}")
        return time.monotonic() - begin

    def unload(self, name: str) -> None:
        """Unload a model, and wait until it is gone."""
        self.wire.call("unload", model=name)
        self.until(lambda: self.show(name)["state"] == "cold", f"{name} is unloaded")

    def plan(self, name: str) -> dict[str, Any]:
        """Return what the engine says that a model takes, as soon as it can say it."""
        found: dict[str, Any] = {}

        def known() -> bool:
            found.update(self.wire.call("plan", model=name))
            if found["decision"] == "refused":
                raise RuntimeError(f"{name} is refused: {found['why']}")
            return found["need"]["source"] in ("estimated", "measured")

        self.until(known, f"the engine says what {name} takes")
        return found

    def answer(self, client: Client, name: str, tokens: int) -> str:
        """Return a greedy answer of so many tokens."""
        return str(client.chat(PROMPT, model=name, **options(tokens)).text)

    def log(self, name: str) -> str:
        """Return the last lines of a worker's log."""
        return "\n".join(self.show(name).get("log") or [])

    # ------------------------------------------------------------ its processes

    def worker(self, name: str) -> int:
        """Return the process id of a model's worker."""
        return int(self.show(name)["pid"])

    def core(self, name: str) -> int:
        """Return the process id of the EngineCore of a model."""
        own = self.worker(name)
        found = [one.pid for one in tree([own], processes()) if one.pid != own]
        return next((pid for pid in found if is_core(pid)), found[0])

    def kill_broker(self) -> float:
        """Kill the broker; returns when."""
        self.forget()
        self.daemon.kill()
        return time.monotonic()

    def restart(self, memory: int) -> None:
        """Put another broker with another bound of memory in this one's place; nursery and models stay warm."""
        self.kill_broker()
        self._memory = memory
        self.daemon.file.write_text(self._config())
        self.daemon.start()

    @staticmethod
    def until(good: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
        """Wait until something is so; returns the seconds. Raises TimeoutError that says what."""
        begin = time.monotonic()
        while not good():
            if time.monotonic() - begin > seconds:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.05)
        return time.monotonic() - begin


def options(tokens: int) -> dict[str, Any]:
    """Return how greedy answers of a length are asked for."""
    return {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}


def gone(pids: set[int]) -> bool:
    """Return whether none of these processes is left."""
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)
