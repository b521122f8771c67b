"""The model that comes with ingle: where it is and how it is run. Standard library only."""

from pathlib import Path
from typing import Any, Final

EMBER_OPTIONS: Final[dict[str, Any]] = {
    "dtype": "float32",
    "max_model_len": 8192,
    "max_num_seqs": 64,
    "kv_cache_memory_bytes": 64 << 20,
    "gpu_memory_utilization": 0.1,
    "enforce_eager": True,
}
"""Options of ember's profile, under the names of vLLM's `AsyncEngineArgs`: 2,048 bytes a token make 32,768 tokens."""


def ember_path() -> Path:
    """Return the folder of the built-in model."""
    return Path(__file__).parent / "ember"
