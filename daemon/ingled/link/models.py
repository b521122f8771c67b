"""What a model is on the private link: what a worker runs, what that will take, and what it knows of it. Pure."""

from typing import Any

from msgspec import Struct

FIELDS = {
    "context": "max_model_len",
    "dtype": "dtype",
    "quantization": "quantization",
    "max_sequences": "max_num_seqs",
    "kv_cache": "kv_cache_memory_bytes",
    "tensor_parallel": "tensor_parallel_size",
    "runner": "runner",
}
"""Our names of launch options and the fields of `AsyncEngineArgs` that they set."""


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """Load spec: what a worker runs, fixed at its start."""

    model: str
    engine: str
    """`vllm` or `echo`."""
    source: str
    """Folder of the weights."""
    options: dict[str, Any] = {}
    """Fields of vLLM's `AsyncEngineArgs`."""
    sampling: dict[str, Any] = {}
    """Sampling defaults under the names of `ingle.wire.schema.Sampling`."""
    concurrency: int | None = None
    """Answers of full length for which the KV cache has room, where no size in bytes is given."""
    echo: dict[str, Any] = {}
    """Options of the echo engine."""
    front: str = "auto"
    """How the worker asks vLLM: `core`, `async`, or `auto`."""
    adapters: dict[str, str] = {}
    """Folders of the adapters that it may be told to load, by the names of their models."""


class Estimate(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model will take in all, said before it is loaded; in bytes, over all of its devices."""

    weights: int = 0
    """As they are loaded, with the copies that the engine makes of them."""
    kv_cache: int = 0
    activations: int = 0
    """What the largest batch takes while it is computed, and graphs."""
    process: int = 0
    """The worker itself: interpreter, tokenizer, context of the device."""
    token_bytes: int = 0
    """What a token takes in the KV cache."""
    context: int = 0
    """Longest prompt plus answer, in tokens, of the options."""
    answers: float = 0.0
    """How many answers of that length the KV cache holds."""
    longest: int = 0
    """Longest context, up to that of the options, of which the KV cache holds one answer."""
    dtype: str = ""
    architecture: str = ""
    devices: int = 1
    """Over how many it is spread, evenly."""


class Gpu(Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU, and its memory in bytes as the driver tells it."""

    name: str
    total: int
    free: int
    driver: str = ""


class Info(Struct, frozen=True, forbid_unknown_fields=True):
    """What a ready worker knows of its model."""

    engine: str
    """Name and version, such as `vllm 0.32.0`."""
    context: int
    """Longest prompt plus answer, in tokens."""
    kv_tokens: int = 0
    """Size of the KV cache, in tokens; 0 when there is none."""
    kv_bytes: int = 0
    weights_bytes: int = 0
    max_running: int = 0
    """Most requests in one batch; 0: not known, or the worker does not say when a place is free."""
    batch_tokens: int = 0
    """Most tokens of prompts in one batch; 0: not known."""
    device: str = "cpu"
    load_s: float = 0.0
    """Seconds from fork to ready."""
    taken_bytes: int = 0
    """Memory that the worker's processes alone have, once it is ready: of the GPU, where it is on one."""
    filled: bool = False
    """Its largest batch has been run once behind that, before it serves."""
    no_sleep: str = "its engine has no sleep"
    """Why it cannot sleep; empty when it can."""
    device_weights: int = 0
    """Bytes of its weights on the device, where that has a memory of its own."""
