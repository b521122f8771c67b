"""The GPU on which vLLM puts a model, and its memory, as the driver tells."""

import logging

from vllm.platforms import current_platform
from vllm.utils.import_utils import import_pynvml

from ingled.link import Gpu
from ingled.worker.vllm_errors import one_line

log = logging.getLogger(__name__)


def seen() -> Gpu | None:
    """Return the GPU that a model would be on, as the driver tells; None on a CPU, and where it tells nothing."""
    if not current_platform.is_cuda():
        return None
    nvml = import_pynvml()
    try:
        nvml.nvmlInit()
        memory = nvml.nvmlDeviceGetMemoryInfo(
            nvml.nvmlDeviceGetHandleByIndex(current_platform.device_id_to_physical_device_id(0))
        )
        driver = str(nvml.nvmlSystemGetDriverVersion())
        return Gpu(str(current_platform.get_device_name()), int(memory.total), int(memory.free), driver)
    except Exception as error:
        log.warning("the GPU's memory cannot be told: %s", one_line(error))
        return None
