"""What runs for us inside EngineCore: vLLM mixes this class into its worker (`worker_extension_cls`).

Its methods are called by name (`AsyncLLM.collective_rpc`); they have a prefix, because they share a namespace.
"""

import ctypes
import gc
import os
from typing import Any

NAME = "ingled.worker.vllm_probe.Probe"


class Probe:
    """Knows the worker that it is mixed into as `self`."""

    model_runner: Any
    device: Any

    def ingle_settle(self) -> dict[str, int]:
        """Give back what loading has left over, and tell what the KV cache takes, in bytes."""
        caches = {
            storage.data_ptr(): storage.nbytes()
            for cache in self.model_runner.kv_caches
            for storage in (one.untyped_storage() for one in (cache if isinstance(cache, list | tuple) else [cache]))
        }
        give_back()
        return {"kv_cache": sum(caches.values()), "device": self._ingle_device_bytes()}

    def _ingle_device_bytes(self) -> int:
        """Return what this process has of a GPU, by its driver, else by what torch has reserved; 0 on a CPU."""
        device = self.device
        if device.type != "cuda":
            return 0
        import torch
        from vllm.platforms import current_platform
        from vllm.utils.import_utils import import_pynvml

        nvml = import_pynvml()
        try:
            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByIndex(
                current_platform.device_id_to_physical_device_id(device.index or 0)
            )
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == os.getpid() and process.usedGpuMemory:
                    return int(process.usedGpuMemory)
        except nvml.NVMLError:
            pass
        return int(torch.cuda.memory_reserved(device))


def give_back() -> None:
    """Return freed memory to the system: after a load the C library holds on to as much as the weights' copies took."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none
        trim(0)
