"""The environment that vLLM and torch read at their import: every process that imports them sets it first."""

import contextlib
import os

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


def set_environment() -> None:
    """Set what vLLM and torch read when they are imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", os.environ.get("INGLE_LOG_LEVEL", "INFO").upper())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    with contextlib.suppress(OSError):  # where there is no home, torch leaves a folder in the one for temporary files
        os.makedirs(folder := os.path.join(caches, "ingle", "torchinductor"), exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)
