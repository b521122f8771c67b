"""What is imported, and set up in vLLM, before the first fork."""

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module

from ingled.worker.environment import set_environment

MODULES = (
    "torch",
    "transformers",
    "vllm",
    "vllm.engine.arg_utils",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.structured_output.backend_xgrammar",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.llama",
    "ingled.worker.vllm_engine",
)
CPU_MODULES = ("vllm.v1.worker.cpu_worker", "vllm.v1.attention.backends.cpu_attn")
"""Only where vLLM runs on the CPU: their import needs its own build."""
LATE_MODULES = ("vllm.model_executor.layers.quantization.online.base",)
"""What vLLM itself imports while it loads a model, if this vLLM has it."""


def import_engine(engine: str) -> Iterator[int]:
    """Import what workers of this engine need; yields the percent done after each module."""
    if engine != "vllm":
        import_module("ingled.worker.echo_engine")
        import_module("ingled.worker.serve")
        return
    set_environment()
    for index, name in enumerate(MODULES):
        import_module(name)
        yield (index + 1) * 100 // (len(MODULES) + 1)
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        for name in CPU_MODULES:
            import_module(name)
        replace_kernels()
    for name in LATE_MODULES:
        with contextlib.suppress(ImportError):
            import_module(name)
    import_module("ingled.worker.serve")


def replace_kernels() -> None:
    """Have vLLM put its kernels for this platform where those for GPUs are, for all that are forked.

    Each EngineCore would look through all modules for them, a third of the time of a small model's load.
    """
    from vllm.platforms import current_platform

    replace = getattr(current_platform, "register_triton_kernel_overrides", None)  # not in 0.26
    if replace is not None:
        replace()
        type(current_platform).register_triton_kernel_overrides = classmethod(lambda cls: None)


def native_threads() -> int:
    """Return how many threads this process has, those of C libraries counted: a fork keeps only the one that forks."""
    return len(os.listdir("/proc/self/task"))
