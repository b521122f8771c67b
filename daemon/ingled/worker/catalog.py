"""The engines by name; each is imported only where it runs."""

from pathlib import Path

from ingled.link import Planned, Spec
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


def plan(spec: Spec, ref: int = 0) -> Planned:
    """Say what a model would take, without loading it, or why the engine refuses its options."""
    match spec.engine:
        case "vllm":
            from ingled.worker import vllm_plan

            return vllm_plan.plan(spec, ref)
        case "echo":
            from ingled.worker import echo_engine

            return echo_engine.plan(spec, ref)
        case other:
            return Planned(ref, f"no engine is called '{other}': there are {', '.join(ENGINES)}")
