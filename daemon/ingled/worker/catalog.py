"""The engines by name; each is imported only where it runs."""

from pathlib import Path

from ingled.link import Spec
from ingled.worker.engine import Engine

ENGINES = ("vllm", "echo")


def make_engine(spec: Spec, folder: Path, log: Path | None) -> Engine:
    """Return the engine that the spec names, not loaded; its private files go to `folder`, its output is in `log`."""
    match spec.engine:
        case "vllm":
            from ingled.worker.vllm_engine import VllmEngine

            return VllmEngine(spec, folder, log)
        case "echo":
            from ingled.worker.echo_engine import EchoEngine

            return EchoEngine(spec)
        case other:
            raise ValueError(f"no engine is called '{other}': there are {', '.join(ENGINES)}")


def check(spec: Spec) -> str | None:
    """Return why the engine would refuse the spec's options, in one line, or None when it takes them."""
    match spec.engine:
        case "vllm":
            from ingled.worker import vllm_engine

            return vllm_engine.check(spec)
        case "echo":
            from ingled.worker import echo_engine

            return echo_engine.check(spec)
        case other:
            return f"no engine is called '{other}': there are {', '.join(ENGINES)}"
