"""What runs for us inside EngineCore: vLLM mixes this class into its worker (`worker_extension_cls`).

Its methods are called by name (`AsyncLLM.collective_rpc`); they have a prefix, because they share a namespace.
"""

import ctypes
import gc
from typing import Any

NAME = "ingled.worker.vllm_probe.Probe"


class Probe:
    """Knows the worker that it is mixed into as `self`."""

    model_runner: Any

    def ingle_settle(self) -> dict[str, int]:
        """Give back what loading has left over, and tell what the KV cache takes, in bytes."""
        caches = {
            storage.data_ptr(): storage.nbytes()
            for cache in self.model_runner.kv_caches
            for storage in (one.untyped_storage() for one in (cache if isinstance(cache, list | tuple) else [cache]))
        }
        give_back()
        return {"kv_cache": sum(caches.values())}


def give_back() -> None:
    """Return freed memory to the system: after a load the C library holds on to as much as the weights' copies took."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none
        trim(0)
