"""What a model will take, said by vLLM itself: its layers are built without memory (device `meta`), and counted.

For a process that is thrown away: what is built stays, and so do the threads of its process group. `vllm_names` lists
what this file relies on.
"""

import logging
import os
import tempfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

import torch
from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
from vllm.distributed.parallel_state import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.tokenizers.registry import cached_tokenizer_from_config
from vllm.utils.torch_utils import set_default_torch_dtype

from ingled.link import Estimate, Gpu, Planned, Spec
from ingled.worker.group import rollup
from ingled.worker.vllm_config import copies, engine_config, largest_batch
from ingled.worker.vllm_errors import one_line
from ingled.worker.vllm_gpu import all_seen

log = logging.getLogger(__name__)

CPU_PROCESS_BYTES = 87 << 20
"""What a forked worker takes beside model and tokenizer, both of its processes (vLLM 0.32; decisions/0011)."""
CPU_BATCH_BYTES = 26 << 20
"""What a first batch leaves there, however small the model is: scratch of kernels, pages that are written to."""
CPU_STEP = 1.7
"""How often the heap has what lives at once in a layer: beside it there are places that were free and are too small."""
CPU_CHOICE_BYTES = 26
"""For each word and sequence, while tokens are chosen: logits, their order, probabilities and sums."""
GPU_PROCESS_BYTES = 600 << 20
"""The same on a GPU, of its memory: the CUDA context and its libraries. Not measured by us; what is measured of a
model takes this one's place."""
TOKENIZERS = 2.7
"""How often a worker holds its tokenizer, about: copies for threads that encode, and that of the grammar's compiler."""


def plan(spec: Spec, ref: int = 0) -> Planned:
    """Return what the spec's model would take, or why vLLM refuses its options, in its own words."""
    try:
        config = engine_config(spec)
    except Exception as error:
        return Planned(ref, one_line(error))
    try:
        gpus = all_seen()
        return Planned(ref, estimate=_estimate(config, gpus[0] if gpus else None), gpus=gpus)
    except Exception as error:
        log.exception("'%s' cannot be planned", spec.model)
        return Planned(ref, note=one_line(error))


def _estimate(config: Any, gpu: Gpu | None) -> Estimate:
    model, cache = config.model_config, config.cache_config
    weights, specs = _build(config)
    spread = config.parallel_config.tensor_parallel_size
    kv_bytes = (cache.kv_cache_memory_bytes or 0) * spread
    if not kv_bytes and gpu is not None:  # the profile wants vLLM to take a share of it
        share = int(gpu.total * cache.gpu_memory_utilization) * spread
        kv_bytes = max(0, share - weights - _activations(config))
    kept = copies(config)
    answer = _answer_bytes(config, specs) * kept
    token = int(sum(one.page_size_bytes for one in specs.values()) * kept) // cache.block_size if specs else 0
    return Estimate(
        weights=weights,
        kv_cache=kv_bytes if specs else 0,
        activations=_activations(config, kv_bytes // token if token else 0),
        process=_process(model, spread) + _inputs(config),
        token_bytes=token,
        context=model.max_model_len,
        answers=round(kv_bytes / answer, 2) if answer else 0.0,
        longest=_longest(config, specs, int(kv_bytes / kept)) if specs and kv_bytes else model.max_model_len,
        dtype=str(model.dtype).removeprefix("torch."),
        architecture=next(iter(model.architectures), ""),
        devices=spread,
    )


def _answer_bytes(config: Any, specs: dict[str, Any]) -> int:
    """Return what one answer of full length takes in the KV cache."""
    return sum(one.max_memory_usage_bytes(config) for one in specs.values())


def _longest(config: Any, specs: dict[str, Any], kv_bytes: int) -> int:
    """Return the longest context of which so many bytes hold one answer; 0 when they hold none."""
    model = config.model_config
    full = model.max_model_len

    def fits(context: int) -> bool:
        model.max_model_len = context
        return _answer_bytes(config, specs) <= kv_bytes

    try:
        return full if fits(full) else bisect_left(range(1, full), True, key=lambda context: not fits(context))
    finally:
        model.max_model_len = full


def _build(config: Any) -> tuple[int, dict[str, Any]]:
    """Return the bytes of all weights, and what each layer keeps in the KV cache, as on one device."""
    spread, config.parallel_config.tensor_parallel_size = config.parallel_config.tensor_parallel_size, 1
    try:
        with set_current_vllm_config(config):
            if not torch.distributed.is_initialized():
                meeting = Path(tempfile.mkdtemp(prefix="ingle-plan-")) / "group"
                try:
                    init_distributed_environment(1, 0, f"file://{meeting}", 0, "gloo")
                    initialize_model_parallel(1, 1)
                finally:
                    meeting.unlink(missing_ok=True)
                    meeting.parent.rmdir()
            with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
                model = initialize_model(config)
        tensors = [*model.parameters(), *model.buffers()]
        weights = sum(one.numel() * one.element_size() for one in tensors)
        layers = get_layers_from_vllm_config(config, AttentionLayerBase)
        specs = {name: found for name, layer in layers.items() if (found := layer.get_kv_cache_spec(config))}
    finally:
        config.parallel_config.tensor_parallel_size = spread
    return weights + (_packed(model) if current_platform.is_cpu() else 0), specs


def _packed(model: Any) -> int:
    """Return the copies that the CPU backend makes: it packs every embedding for its matrix product and keeps both.

    Where embedding and output share one matrix, that is packed twice (`UnquantizedEmbeddingMethod`).
    """
    methods = ((module, getattr(module, "quant_method", None)) for module in model.modules())
    kept = [module.weight for module, method in methods if isinstance(method, UnquantizedEmbeddingMethod)]
    return sum(one.numel() * one.element_size() for one in kept)


def _activations(config: Any, cached: int = 0) -> int:
    """Return about what the largest batch takes: in its widest layer, and while its tokens are chosen.

    `cached` is for how many tokens there is room in the KV cache, if it is known.
    """
    model, scheduler = config.model_config, config.scheduler_config
    text, tokens, width = model.hf_text_config, scheduler.max_num_batched_tokens, model.dtype.itemsize
    hidden = int(model.get_hidden_size())
    inner = int(getattr(text, "intermediate_size", 0) or 4 * hidden)
    choices = 0 if model.runner_type == "pooling" else scheduler.max_num_seqs * model.get_vocab_size()
    if not current_platform.is_cpu():
        return int(max(tokens * (3 * inner + 4 * hidden) * width, choices * 16))
    tokens = largest_batch(config, cached)
    # Of an MLP: two halves and their product. Hidden states: into it, out of it, the sum so far, and two more.
    layer = tokens * (3 * inner + 5 * hidden) * width
    return int(CPU_BATCH_BYTES + CPU_STEP * layer + choices * CPU_CHOICE_BYTES)


def _inputs(config: Any) -> int:
    """Return what the runner keeps for the inputs of its largest batch: one vector for each token."""
    model = config.model_config
    return int(config.scheduler_config.max_num_batched_tokens * model.get_hidden_size() * model.dtype.itemsize)


def _process(model: Any, spread: int) -> int:
    """Return what the processes of a worker take beside the model; its tokenizer is loaded here, to see."""
    if not current_platform.is_cpu():
        return GPU_PROCESS_BYTES * spread
    before = rollup(os.getpid()).get("Private_Dirty", 0)
    tokenizer = cached_tokenizer_from_config(model)
    grown = max(0, rollup(os.getpid()).get("Private_Dirty", 0) - before)
    del tokenizer
    return CPU_PROCESS_BYTES * spread + int(TOKENIZERS * grown)
