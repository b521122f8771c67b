"""The network: Qwen3 at its smallest, written out for training; its tensors have the names that every loader knows.

This module needs torch; the rest of the data side does not.
"""

import json
import math
from pathlib import Path
from typing import Any, Final

import torch  # noqa: TID253 - a script of its own
import torch.nn.functional as F  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from bench.ember.model_sizes import CONTEXT

EPS: Final = 1e-6
THETA: Final = 10000.0


class Attention(nn.Module):  # type: ignore[misc]
    """Causal attention with normed queries and keys, and positions by rotation."""

    def __init__(self, hidden: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(hidden, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, hidden, bias=False)
        self.q_norm = nn.RMSNorm(head_dim, EPS)
        self.k_norm = nn.RMSNorm(head_dim, EPS)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return what each place gathers from those before it."""
        rows, length, _ = x.shape
        q, k, v = (f(x).view(rows, length, -1, self.head_dim) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        out = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True)
        joined: Tensor = self.o_proj(out.transpose(1, 2).reshape(rows, length, -1))
        return joined


class Mlp(nn.Module):  # type: ignore[misc]
    """The gated part of a layer."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to each place."""
        added: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return added


class Layer(nn.Module):  # type: ignore[misc]
    """Attention and the gated part, each added to what comes in."""

    def __init__(self, size: dict[str, int]) -> None:
        super().__init__()
        self.self_attn = Attention(size["hidden"], size["heads"], size["kv_heads"], size["head_dim"])
        self.mlp = Mlp(size["hidden"], size["inner"])
        self.input_layernorm = nn.RMSNorm(size["hidden"], EPS)
        self.post_attention_layernorm = nn.RMSNorm(size["hidden"], EPS)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the places after this layer."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        added: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return added


class Ember(nn.Module):  # type: ignore[misc]
    """The whole network; the matrix of words is used at both ends."""

    def __init__(self, size: dict[str, int], vocabulary: int) -> None:
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(vocabulary, size["hidden"])
        self.layers = nn.ModuleList(Layer(size) for _ in range(size["layers"]))
        self.norm = nn.RMSNorm(size["hidden"], EPS)
        deep = 0.02 / math.sqrt(2 * size["layers"])
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=deep if last else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the hidden state of each place, normed."""
        cos, sin = rotation(ids.shape[1], self.size["head_dim"])
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos.to(x.device), sin.to(x.device))
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the weight of each word, for hidden states."""
        return F.linear(hidden, self.embed_tokens.weight)


def rotation(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the angles by which positions turn."""
    speeds = THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), speeds)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys by their positions."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def config(size: dict[str, int], vocabulary: int, eos: int, pad: int) -> dict[str, Any]:
    """Return what stands in config.json."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "bfloat16",
        "eos_token_id": eos,
        "head_dim": size["head_dim"],
        "hidden_act": "silu",
        "hidden_size": size["hidden"],
        "initializer_range": 0.02,
        "intermediate_size": size["inner"],
        "max_position_embeddings": CONTEXT,
        "max_window_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "num_hidden_layers": size["layers"],
        "num_key_value_heads": size["kv_heads"],
        "pad_token_id": pad,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocabulary,
    }


def read(model: Ember, folder: Path) -> None:
    """Take the weights over that `save` has written."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): weight.float() for name, weight in weights.items()})


def save(model: Ember, folder: Path, texts: dict[str, Any]) -> None:
    """Write the weights as bfloat16, and the JSON files beside them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"model.{name}": weight.detach().cpu().bfloat16().contiguous() for name, weight in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
