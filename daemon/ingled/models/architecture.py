"""What a token takes in the KV cache, read from a model's `config.json` without any engine. Pure.

A lower bound: layers whose cache is of another kind (sliding windows, linear attention, state spaces) are not counted,
and where nothing can be told it is zero. The engine's own plan (`python -m ingled.worker plan`) knows them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTHS = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
"""Bytes of a number, by dtype as configurations name it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What of a model's shape decides how much memory its KV cache takes."""

    name: str
    layers: int = 0
    """That keep keys and values of every token."""
    numbers: int = 0
    """Of one token in one such layer."""
    context: int | None = None
    """Tokens that the model was made for."""
    dtype: str | None = None
    """In which it was stored."""
    quantized: str | None = None
    """The method, where its weights are quantized."""

    def width(self, dtype: str | None) -> int:
        """Return the bytes of a number when it is run with this dtype; None and `auto` mean the model's own.

        An engine may run a float32 model in two bytes when it may choose.
        """
        if dtype in (None, "auto"):
            return 2
        return WIDTHS.get(str(dtype), 2)

    def token_bytes(self, width: int) -> int:
        """Return what one token takes at least in a KV cache with numbers of so many bytes."""
        return self.layers * self.numbers * width


def read(config: Mapping[str, Any]) -> Architecture:
    """Read a `config.json`, as a mapping; of a strange one as much as there is. Raises nothing."""
    text = config.get("text_config")
    inner: Mapping[str, Any] = text if isinstance(text, Mapping) else config
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "unknown"
    dtype = next((one.get(key) for one in (config, inner) for key in ("dtype", "torch_dtype") if one.get(key)), None)
    method = config.get("quantization_config", inner.get("quantization_config"))
    quantized = str(method.get("quant_method", "unknown")) if isinstance(method, Mapping) else None
    context = _number(inner, "max_position_embeddings") or None
    stored = dtype if isinstance(dtype, str) else None
    return Architecture(name, _layers(inner), _numbers(inner), context, stored, quantized)


def _layers(config: Mapping[str, Any]) -> int:
    """Return how many layers keep every token, as far as the configuration tells."""
    if any(key in config for key in ("attn_layer_period", "hybrid_override_pattern", "ssm_cfg", "mamba_d_state")):
        return 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return sum(kind == "full_attention" for kind in kinds)
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return 0
    return _number(config, "num_hidden_layers")


def _numbers(config: Mapping[str, Any]) -> int:
    """Return how many numbers a layer keeps of a token."""
    if latent := _number(config, "kv_lora_rank"):
        return latent + _number(config, "qk_rope_head_dim")
    heads = _number(config, "num_attention_heads")
    kept = _number(config, "num_key_value_heads") or heads
    size = _number(config, "head_dim") or (_number(config, "hidden_size") // heads if heads else 0)
    return 2 * kept * size


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40 else 0
