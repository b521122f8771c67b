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
        device = 0
        if self.device.type == "cuda":
            import torch

            device = self._ingle_own_bytes() or int(torch.cuda.memory_reserved(self.device))
        return {"kv_cache": sum(caches.values()), "weights": self._ingle_weights(), "device": device}

    def ingle_memory(self) -> dict[str, int | None]:
        """Return what this process has of its device, if the driver tells, and what is free there; 0 on a CPU."""
        if self.device.type != "cuda":
            return {"own": 0, "free": 0}
        import torch

        free, _ = torch.cuda.mem_get_info(self.device)
        return {"own": self._ingle_own_bytes(), "free": int(free)}

    def _ingle_weights(self) -> int:
        """Return the bytes of the weights on the device, where that has a memory of its own."""
        if self.device.type == "cpu":
            return 0
        model = self.model_runner.get_model()
        on_device = (one for one in (*model.parameters(), *model.buffers()) if one.device.type != "cpu")
        storages = {one.data_ptr(): one.nbytes() for one in (tensor.untyped_storage() for tensor in on_device)}
        return sum(storages.values())

    def _ingle_own_bytes(self) -> int | None:
        """Return what this process has of a GPU; None where its driver does not tell, as in some containers."""
        device = self.device
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
        return None


def give_back() -> None:
    """Return freed memory to the system: after a load the C library holds on to as much as the weights' copies took."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none
        trim(0)
