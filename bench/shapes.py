"""The models that are measured: the tiny one of the tests, and shapes of real ones with random weights.

Nothing is downloaded: a shape is a `config.json` and a tokenizer, and vLLM fills the weights in (`load_format=dummy`).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingled import testing_model

NAME = "bench"
TINY = "tiny"
VOCABULARY = 151_936
CONTEXT = 4096
LONGEST = 1280
"""Tokens of the longest prompt and its answer, about; the KV cache holds as many as there are requests at once."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    tied: bool = False
    words: int = VOCABULARY

    @property
    def kv_bytes(self) -> int:
        """Return what one token takes in the KV cache, in two bytes a number."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


SHAPES = {
    "2m": Shape(64, 2, 2, 1, 32, 128, tied=True, words=8192),
    "30m": Shape(256, 4, 4, 2, 64, 512, tied=True),
    "0.5b": Shape(896, 24, 14, 2, 64, 4864, tied=True),
    "1b": Shape(2048, 16, 32, 8, 64, 8192, tied=True),
    "4b": Shape(2560, 36, 32, 8, 128, 9728, tied=True),
    "8b": Shape(4096, 32, 32, 8, 128, 14336),
    "14b": Shape(5120, 40, 40, 8, 128, 17408),
    "32b": Shape(5120, 64, 64, 8, 128, 25600),
}
"""From 0.5b on after the models of these sizes that people run; all in one architecture, Qwen3's."""


@dataclass(frozen=True)
class Model:
    """A folder, and the options with which every row runs it, under the names of vLLM's `AsyncEngineArgs`."""

    name: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def dummy(self) -> bool:
        """Return whether its weights exist only in memory."""
        return self.options.get("load_format") == "dummy"

    def profile(self, name: str = NAME, *, preload: bool = False) -> str:
        """Return its table of ingle's configuration, under a name."""
        options = dict(self.options)
        ours = {"dtype": "dtype", "context": "max_model_len", "max_sequences": "max_num_seqs"}
        lines = [f"[models.{name}]", f"source = {json.dumps(str(self.folder))}", f"preload = {json.dumps(preload)}"]
        lines += [f"{key} = {json.dumps(options.pop(theirs))}" for key, theirs in ours.items()]
        rest = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
        return "\n".join([*lines, f"engine = {{{rest}}}", ""])


def make(shape: str, folder: Path, sequences: int, *, eager: bool | None = None, kv_bytes: int | None = None) -> Model:
    """Write a model for so many requests at once. By default only the tiny one runs in eager mode."""
    if shape == TINY:
        kv = kv_bytes or max(64 << 20, sequences * LONGEST * 1024)
        options = {"dtype": "float32", "max_model_len": CONTEXT, "enforce_eager": eager is not False}
        testing_model.write(folder)
    else:
        sizes = SHAPES[shape]
        kv = kv_bytes or min(16 << 30, max(256 << 20, sequences * LONGEST * sizes.kv_bytes))
        options = {"dtype": "bfloat16", "max_model_len": CONTEXT, "enforce_eager": eager is True}
        options["load_format"] = "dummy"
        write(sizes, folder, sizes.words)
    options |= {"max_num_seqs": sequences, "kv_cache_memory_bytes": kv, "gpu_memory_utilization": 0.1}
    return Model(shape, folder, options)


def write(shape: Shape, folder: Path, words: int = VOCABULARY) -> None:
    """Write configuration and tokenizer, with so many words, of a shape."""
    files = testing_model.files()
    del files["model.safetensors"], files["README.md"]
    config = json.loads(files["config.json"])
    config |= {
        "dtype": "bfloat16",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "max_window_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.inner,
        "tie_word_embeddings": shape.tied,
        "vocab_size": words,
    }
    tokenizer = json.loads(files["tokenizer.json"])
    vocabulary = tokenizer["model"]["vocab"]
    taken = len(vocabulary) + len(tokenizer["added_tokens"])
    space = testing_model.byte_letters()[ord(" ")]
    # Random weights choose any id: each has a word of its own, so that each has text.
    vocabulary |= {f"{space}{invented(number)}": number for number in range(taken, words)}
    files["config.json"] = json.dumps(config, indent=1).encode()
    files["tokenizer.json"] = json.dumps(tokenizer, ensure_ascii=False).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def invented(number: int) -> str:
    """Return a word that no other number has, and no real one is."""
    syllables = "bakedilomusateniropuwagefihocuza"
    word = ""
    while number:
        number, digit = divmod(number, 16)
        word += syllables[2 * digit : 2 * digit + 2]
    return f"{word}x"
