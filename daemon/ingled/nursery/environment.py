"""The environment that vLLM reads at its import, and the modules that are imported before the first fork."""

import os
from collections.abc import Iterator
from importlib import import_module

DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # `auto` pins every engine of the machine to the same cores
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # EngineCore is forked all the same; its worker runs inside it
}
"""Set unless the operator has set them. A worker may still set, after its fork, what vLLM reads late:
VLLM_RPC_BASE_PATH, TMPDIR (with `tempfile.tempdir = None`) and VLLM_WORKER_MULTIPROC_METHOD. OMP_NUM_THREADS it may
not: libgomp has read it when torch was imported."""

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


def set_environment() -> None:
    """Set what vLLM and torch read when they are imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", os.environ.get("INGLE_LOG_LEVEL", "INFO").upper())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))


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
    import_module("ingled.worker.serve")


def native_threads() -> int:
    """Return how many threads this process has, those of C libraries counted: a fork keeps only the one that forks."""
    return len(os.listdir("/proc/self/task"))
