"""The GPU on which vLLM puts a model, and its memory, as the driver tells."""

import logging

from vllm.platforms import current_platform
from vllm.utils.import_utils import import_pynvml

from ingled.link import Gpu
from ingled.worker.vllm_errors import one_line

log = logging.getLogger(__name__)


def all_seen(most: int | None = None) -> list[Gpu]:
    """Return the GPUs that models may be on, as the driver tells; none on a CPU, and where it tells nothing."""
    if not current_platform.is_cuda():
        return []
    nvml, found = import_pynvml(), []
    try:
        nvml.nvmlInit()
        driver = str(nvml.nvmlSystemGetDriverVersion())
        for index in range(most or current_platform.device_count()):
            physical = current_platform.device_id_to_physical_device_id(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(physical))
            found.append(Gpu(str(current_platform.get_device_name(index)), int(memory.total), int(memory.free), driver))
    except Exception as error:
        log.warning("the GPU's memory cannot be told: %s", one_line(error))
        return []
    return found
