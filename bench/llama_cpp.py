"""llama-cpp-python's server, which is what many run where there is no vLLM: the same weights, as GGUF in float32.

It is found by its Python, in an environment of its own (docs/performance.md says how to make one). It answers one
request at a time, and the others wait; so it is measured with few. Server and engine are one process.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from bench.contenders import Contender, Http
from bench.load import Load
from bench.machine import ROOT
from bench.shapes import NAME, TINY

VARIABLE = "INGLE_BENCH_LLAMA_CPP"
HOW = "docs/performance.md says how to install it"
SAME_TOKENS = 64
F32 = "0"
"""ggml's number of the type: by default its KV cache has half of the others' bits."""


class LlamaCpp(Http):
    """The server, with as many threads as the others have."""

    name = "llama-cpp-python"
    most = 8
    health = "/v1/models"
    tells_usage = False
    more = MappingProxyType({"repeat_penalty": 1.0})
    """By default this server, and no other, would rather not say a word twice."""
    python = os.environ.get(VARIABLE, "")
    """The Python in whose environment it is installed."""

    @classmethod
    def absent(cls) -> str:
        """Return what is missing."""
        if not cls.python:
            return f"not installed, or not told where ({VARIABLE}, --llama-cpp): {HOW}"
        if not cls.version():
            return f"{cls.python} has no llama-cpp-python[server] and gguf: {HOW}"
        return ""

    @classmethod
    def version(cls) -> str:
        """Return the installed version; nothing where something is missing."""
        program = "import gguf, llama_cpp, uvicorn; print(llama_cpp.__version__)"
        command = [cls.python, "-c", program]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    def command(self, port: int) -> list[str]:
        """Write the model, and return how the server is started."""
        if self.model.name != TINY:
            raise RuntimeError(f"{self.name}: the weights of {self.model.name} exist in vLLM's memory only")
        file = Path(self.folder.name, "model.gguf")
        script = [self.python, "-m", "bench.gguf_model", str(self.model.folder), str(file)]
        done = subprocess.run(script, cwd=ROOT, env=self._plain(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.name}: the model cannot be written: {done.stderr[-2000:]}")
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        options = {
            "model": str(file),
            "model_alias": NAME,
            "host": "127.0.0.1",
            "port": str(port),
            "n_ctx": str(self.model.options["max_model_len"]),
            "n_threads": threads,
            "n_threads_batch": threads,
            "type_k": F32,
            "type_v": F32,
            "logits_all": "false",
            "verbose": "false",
            "interrupt_requests": "false",  # else a new request ends the one that is being answered
        }
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        return [self.python, "-m", "llama_cpp.server", *words]

    def environment(self) -> dict[str, str]:
        """Return what keeps it from this project's packages."""
        return {"PYTHONPATH": ""}

    def parts(self) -> dict[str, list[int]]:
        """Return its process: it runs the model, so what it costs is not a front end's."""
        assert self._process is not None
        return {"core": [self._process.pid]}

    @staticmethod
    def _plain() -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def agreement(rows: Sequence[Contender]) -> str:
    """Return a sentence on whether llama.cpp says what another server says to the same prompt; nothing without both."""
    ours = next((row for row in rows if isinstance(row, LlamaCpp)), None)
    other = next((row for row in rows if isinstance(row, Http) and row is not ours), None)
    if ours is None or other is None:
        return ""
    prompt = Load(1, 1).text(0)
    here, there = (row.answer(prompt, SAME_TOKENS) for row in (ours, other))
    said = "the same" if here == there else f"something else ({here[:80]!r}, not {there[:80]!r})"
    return f"To one prompt, {ours.name} {ours.version()} says {said} in {SAME_TOKENS} tokens as {other.name}."
