"""vLLM's own configuration of a model, from a spec: defaults that suit a daemon."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from ingled.link import Spec
from ingled.models import adapter
from ingled.models.tensors import Unreadable
from ingled.worker.engine import LoadError
from ingled.worker.refusals import refusal
from ingled.worker.vllm_probe import NAME

KV_BYTES = 256 << 20
"""Smallest KV cache where the profile names neither size nor concurrency; vLLM would take 92 % of the memory."""
CONCURRENCY = 4
"""Answers of full length that such a KV cache holds."""
GPU_SHARE = 0.05
"""Part of a GPU that must be free when a model with a KV cache of given size is loaded; vLLM asks for 92 % of it."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters for which vLLM can make room."""
AT_ONCE = 8
"""Most adapters in one batch on a GPU, if not said (`max_loras`): each takes memory there. More take turns."""
LONGEST_FOLDER = 107 - 37
"""A unix socket's path has 107 bytes, and vLLM puts `/` and a UUID after the folder."""


def engine_config(spec: Spec) -> Any:
    """Return vLLM's own configuration for a spec. Raises LoadError."""
    if not (Path(spec.source) / "config.json").is_file():
        raise LoadError(f"{spec.source} holds no model: there is no config.json in it")
    options: dict[str, Any] = {
        "load_format": "safetensors",  # never pickle
        "scheduling_policy": "priority",  # arrival decides among equals
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "worker_extension_cls": NAME,
        **(_for_adapters(spec) if spec.adapters else {}),
        **spec.options,
        "model": spec.source,
        "served_model_name": spec.model,
    }
    on_cpu = current_platform.is_cpu()
    if on_cpu:
        options.setdefault("enforce_eager", True)  # torch.compile costs 30 s there
    elif _can_sleep():
        options.setdefault("enable_sleep_mode", True)
    share = None if on_cpu else options.get("gpu_memory_utilization")
    by_hand = os.environ.get("VLLM_CPU_KVCACHE_SPACE") if on_cpu else share
    if options.get("kv_cache_memory_bytes") is None and by_hand:
        return _made(options)
    if not on_cpu:
        options.setdefault("gpu_memory_utilization", GPU_SHARE)
    config = _made(options)
    whole = options.get("kv_cache_memory_bytes") or int(kv_bytes(config, spec.concurrency) * copies(config))
    each = -(-whole // config.parallel_config.tensor_parallel_size)
    return config if options.get("kv_cache_memory_bytes") == each else _made(options | {"kv_cache_memory_bytes": each})


def copies(config: Any) -> float:
    """Return how often each number of the KV cache is kept: more than once where devices share one of its heads."""
    model, spread = config.model_config, config.parallel_config.tensor_parallel_size
    heads = 1 if model.use_mla else model.get_total_num_kv_heads() or spread  # 0: no attention
    return float(max(1.0, spread / heads))


def _for_adapters(spec: Spec) -> dict[str, Any]:
    """Return what makes room for adapters: of the highest rank among those that can be read, all of them in memory."""
    ranks = [0]
    for path in spec.adapters.values():
        with suppress(Unreadable):  # it will be told when that one is to be loaded
            ranks.append(adapter.read(Path(path)).rank)
    count = len(spec.adapters)
    # Of a batch with and without adapters, vLLM 0.32 gives those without the last place's on a CPU: it stays empty.
    at_once = count + 1 if current_platform.is_cpu() else min(count, AT_ONCE)
    rank = next((rank for rank in RANKS if rank >= max(ranks)), RANKS[-1])
    return {"enable_lora": True, "max_loras": at_once, "max_cpu_loras": max(count, at_once), "max_lora_rank": rank}


def _made(options: dict[str, Any]) -> Any:
    try:
        config = AsyncEngineArgs(**options).create_engine_config()
    except Exception as error:
        raise LoadError(refusal(error, options)) from error
    if config.model_config.runner_type == "pooling" and options.get("runner") != "pooling":
        raise LoadError('the model makes no text: with runner = "pooling" in its profile it may make vectors of texts')
    return config


def _can_sleep() -> bool:
    """Return whether this vLLM can give weights and KV cache back while it lives on, on this platform."""
    available = getattr(current_platform, "is_cumem_allocator_available", lambda: True)  # not in 0.26
    return bool(current_platform.is_sleep_mode_available() and available())


def no_sleep(config: Any) -> str:
    """Return why a model with this configuration cannot sleep; empty when it can."""
    if current_platform.is_cpu():
        return "on a CPU, vLLM's sleep gives no memory back"
    if not config.model_config.enable_sleep_mode:
        return "vLLM's sleep mode is off: by enable_sleep_mode of its profile, or because this vLLM has none here"
    if config.parallel_config.worker_extension_cls != NAME:
        return "its profile has a worker_extension_cls of its own, and what sleep gives back could not be seen"
    return ""


def largest_batch(config: Any, cached: int) -> int:
    """Return how many tokens may be computed at once, with room for `cached` in the KV cache (0: it is not known)."""
    model, scheduler = config.model_config, config.scheduler_config
    tokens = min(scheduler.max_num_batched_tokens, scheduler.max_num_seqs * model.max_model_len)
    return int(min(tokens, cached or tokens))


def kv_bytes(config: Any, concurrency: int | None) -> int:
    """Return a KV cache for so many answers of full length; if not said, for some, and not for the last ones."""
    model, block = config.model_config, config.cache_config.block_size
    heads, layers = model.get_total_num_kv_heads(), model.get_total_num_hidden_layers()
    token = 2 * heads * layers * model.get_head_size() * model.dtype.itemsize
    blocks = -(-model.max_model_len // block)
    if concurrency is not None:
        return int(token * block * (blocks * concurrency + 1))  # vLLM keeps one block for itself
    sequences = min(CONCURRENCY, config.scheduler_config.max_num_seqs)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = free // 2 if current_platform.is_cpu() else 1 << 62
    return int(min(max(KV_BYTES, token * block * (blocks * sequences + 1)), most))


def use_folder(folder: Path) -> None:
    """Let vLLM put its sockets and temporary files there: it removes none of them itself. Raises LoadError."""
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise LoadError(f"the name of the runtime folder is too long for sockets in it: {folder}")
    os.environ["VLLM_RPC_BASE_PATH"] = os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # it remembers the nursery's
