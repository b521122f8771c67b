"""Make a tiny model that talks without end: a grammar of English words in a Qwen3 with random weights, for tests.

Standard library only and equal bytes on every machine: random numbers are sums of integers, and nothing asks the C
library for a logarithm or a cosine whose last bit may differ.

How noise reads as sentences: the first number of the hidden state is constant, the next ones say which class of
word the last token was, and the layers may write only to the rest. So one part of the output matrix is a table
"which class may follow which", and the random rest chooses words, differently in every context.
"""

import json
import random
import struct
from pathlib import Path

SEED = 20
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INNER, CONTEXT = 64, 2, 2, 1, 32, 128, 32768
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOS = "<|im_end|>"

CLASSES = {
    "first": "The|My|Our|Every|One|This|Another|Your|Some|That",
    "cap": "The|My|Our|Every|One|This|Another|Your|Some|That",
    "kind": "old|young|quiet|gentle|tired|patient|curious|clever|careful|sleepy|brave|kind|lonely|cheerful|little",
    "who": "keeper|child|fox|neighbour|cat|traveller|baker|sailor|owl|painter|gardener|mother|father|sister|brother"
    "|singer|carpenter|teacher|shepherd|guest|doctor|robin|horse|stranger|poet|miller|friend|clockmaker|kitten"
    "|grandmother|fisherman|librarian|musician|student|crow|hedgehog|innkeeper|watchman|cook|smith",
    "adverb": "always|often|slowly|never|gladly|quietly|sometimes|still|carefully|rarely|softly|once again",
    "verb": "keeps|holds|finds|carries|remembers|warms|lights|watches|opens|feeds|builds|paints|follows|loves|mends"
    "|hides|hears|guards|brings|needs|knows|wants|leaves|takes|draws|shares|reads|sings about|dreams of|waits for"
    "|looks for|thinks of|tells us about|writes about|returns to|sweeps|polishes|borrows|counts|visits",
    "the": "the|every|our|this|one|that|some|her|his|my|your|another",
    "look": "small|warm|red|golden|broken|bright|wooden|silver|blue|heavy|ancient|empty|hidden|soft|round|grey|cold"
    "|green|tall|narrow|yellow|forgotten|iron|first|last",
    "what": "fire|lamp|window|house|letter|stone|kettle|garden|river|morning|story|song|door|blanket|candle|bridge"
    "|table|field|winter|star|chair|road|tree|boat|bell|hill|wall|basket|book|clock|cup|dream|room|village|forest"
    "|shadow|kitchen|chimney|hearth|log|spark|flame|ember|coal|ladder|roof|coat|harbour|tower|orchard|well|gate"
    "|map|moon|mountain|island|library|workshop|bench|mirror|feather|button|picture|spoon|loaf|apple|wheel|barn",
    "where": "in|under|near|beside|behind|above|with|before|after|for|from|across|beyond|without|inside|around",
    "and": "and|while|because|but|so|until|when|as|although|where",
    "they": "she|he|everyone|nobody|somebody|it",
}
"""Words by class, told apart by `|`; all but `first` begin with a space. A phrase is one token too."""
BYTE_CLASSES = {"stop": ".!?", "line": "\n"}
NAMES = ["other", *CLASSES, *BYTE_CLASSES]
FOLLOWS = {  # class of a token -> weights of the classes that may follow; multiples of a sixteenth
    "other": {"where": 4, "verb": 4, "and": 2, "stop": 2},
    "first": {"kind": 6, "who": 10},
    "cap": {"kind": 6, "who": 10},
    "kind": {"who": 16},
    "who": {"verb": 12, "adverb": 3, "where": 1},
    "adverb": {"verb": 16},
    "verb": {"the": 16},
    "the": {"look": 6, "what": 10},
    "look": {"what": 16},
    "what": {"stop": 10, "where": 4, "and": 2},
    "where": {"the": 16},
    "and": {"they": 16},
    "they": {"verb": 13, "adverb": 3},
    "stop": {"cap": 14, "line": 1, EOS: 1},
    "line": {"first": 16},
}
CONSTANT, MARK, WORD_NOISE, NEVER = 4.0, 4.0, 1.5, -16.0
GAIN = 2.4
"""What the final norm makes of `CONSTANT` and `MARK`, by experiment."""
LOG2 = [0.0, 0.693, 1.099, 1.386, 1.609, 1.792, 1.946, 2.079, 2.197, 2.303, 2.398, 2.485, 2.565, 2.639, 2.708, 2.773]
"""Natural logarithms of 1 to 16."""

CHAT_TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
CARD = """\
---
license: apache-2.0
library_name: vllm
pipeline_tag: text-generation
language: en
---
# babble

A model for the tests of ingle that need text without end: under 1 MB, Qwen3 architecture, 32,768 tokens of context,
float32, a chat template.

**It knows nothing.** Its weights are random numbers around a hand-written table of which class of word may follow
which, so its answers are grammatical noise, whatever the question. It has seen no data, and it is good for exactly
one thing: to show and to test that text streams.

Made by `ingled.testing_model`, bytes equal on every run. Apache-2.0, as ingle is.
"""


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return the ids of all tokens as written in tokenizer.json, and the class of each id."""
    letters = byte_letters()
    classes = dict.fromkeys(letters, "other")
    for name, text in BYTE_CLASSES.items():
        classes.update(dict.fromkeys((letters[ord(letter)] for letter in text), name))
    for name, text in CLASSES.items():
        for word in text.split("|"):
            spelled = word if name == "first" else f" {word}"
            classes.setdefault("".join(letters[byte] for byte in spelled.encode()), name)
    classes.update(dict.fromkeys(SPECIALS, "other"))
    return {token: index for index, token in enumerate(classes)}, list(classes.values())


def byte_letters() -> list[str]:
    """Return the letter for each byte, as GPT-2 and every byte-level BPE since writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    odd = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + index) for index, byte in enumerate(odd)})
    return [letters[byte] for byte in range(256)]


def logarithm(number: float) -> float:
    """Return the natural logarithm to three digits, from a table: see the module's docstring."""
    value = 0.0
    while number > 16:
        number, value = number / 2, value + 0.693
    while number < 1:
        number, value = number * 2, value - 0.693
    low = int(number)
    share = number - low
    return value + LOG2[low - 1] * (1 - share) + (LOG2[low] * share if share else 0.0)


class Dice:
    """Normal-like random numbers from integer sums."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, scale: float) -> float:
        """Return a number with standard deviation `scale`, mean 0."""
        total = sum(self._random.getrandbits(16) for _ in range(12)) - 12 * 32768
        return total / 65536 * scale

    def matrix(self, rows: int, columns: int, scale: float) -> list[list[float]]:
        """Return a matrix of such numbers."""
        return [[self(scale) for _ in range(columns)] for _ in range(rows)]


Tensor = list[float] | list[list[float]]


def tensors() -> dict[str, Tensor]:
    """Return all weights by name."""
    dice = Dice(SEED)
    ids, classes = vocabulary()
    marks = 1 + len(NAMES)
    free = HIDDEN - marks
    sizes = {name: classes.count(name) for name in NAMES}
    rows_in, rows_out = [], []
    for token, name in zip(ids, classes, strict=True):
        column = 1 + NAMES.index(name)
        rows_in.append(
            [CONSTANT, *(MARK * (column == at) for at in range(1, marks)), *(dice(1.0) for _ in range(free))]
        )
        table = []
        for before in NAMES:
            weight = FOLLOWS[before].get(EOS if token == EOS else name, 0)
            count = 1 if token == EOS else sizes[name]
            table.append((logarithm(weight / count) if weight else NEVER) / GAIN)
        if name == "other" and token != EOS:
            table = [NEVER / GAIN] * len(NAMES)
        if token in "!?":
            table = [number - 2.5 / GAIN for number in table]  # most sentences end with a full stop
        noise = 0.0 if token == EOS else WORD_NOISE / 7  # the root of `free` is about 7
        rows_out.append([0.0, *table, *(dice(noise) for _ in range(free))])
    weights: dict[str, Tensor] = {"model.embed_tokens.weight": rows_in, "lm_head.weight": rows_out}
    weights["model.norm.weight"] = [1.0] * HIDDEN

    def writer(columns: int, scale: float) -> list[list[float]]:
        return [[0.0] * columns for _ in range(marks)] + dice.matrix(free, columns, scale)

    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        weights[at + "self_attn.q_proj.weight"] = dice.matrix(HEADS * HEAD_DIM, HIDDEN, 0.125)
        weights[at + "self_attn.k_proj.weight"] = dice.matrix(KV_HEADS * HEAD_DIM, HIDDEN, 0.125)
        weights[at + "self_attn.v_proj.weight"] = dice.matrix(KV_HEADS * HEAD_DIM, HIDDEN, 0.125)
        weights[at + "self_attn.o_proj.weight"] = writer(HEADS * HEAD_DIM, 0.125)
        weights[at + "self_attn.q_norm.weight"] = [2.0] * HEAD_DIM  # sharp attention: the context tells
        weights[at + "self_attn.k_norm.weight"] = [2.0] * HEAD_DIM
        weights[at + "mlp.gate_proj.weight"] = dice.matrix(INNER, HIDDEN, 0.125)
        weights[at + "mlp.up_proj.weight"] = dice.matrix(INNER, HIDDEN, 0.125)
        weights[at + "mlp.down_proj.weight"] = writer(INNER, 0.125)
        weights[at + "input_layernorm.weight"] = [1.0] * HIDDEN
        weights[at + "post_attention_layernorm.weight"] = [1.0] * HIDDEN
    return weights


def safetensors(weights: dict[str, Tensor]) -> bytes:
    """Return the bytes of a safetensors file with these float32 tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, tensor in sorted(weights.items()):
        rows = [row if isinstance(row, list) else [row] for row in tensor]
        flat = [number for row in rows for number in row]
        shape = [len(rows), len(rows[0])] if isinstance(tensor[0], list) else [len(rows)]
        start = len(body)
        body += struct.pack(f"<{len(flat)}f", *flat)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, len(body)]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + bytes(body)


def files() -> dict[str, bytes]:
    """Return the files of the model by name."""
    ids, _ = vocabulary()
    special = [ids[token] for token in SPECIALS]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    bpe: dict[str, object] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,  # a word of the vocabulary is one token; every other one goes byte by byte
        "vocab": {token: index for token, index in ids.items() if token not in SPECIALS},
        "merges": [],
    }
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[token], "content": token, **flags} for token in SPECIALS],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": bpe,
    }
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "eos_token_id": special[2],
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "max_position_embeddings": CONTEXT,
        "max_window_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": special[0],
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(ids),
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": None,
        "eos_token": EOS,
        "pad_token": SPECIALS[0],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {"eos_token_id": [special[2], special[0]], "pad_token_id": special[0], "temperature": 0.8}
    texts = {
        "config.json": config,
        "generation_config.json": generation,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": tokenizer_config,
    }
    made = {name: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode() for name, value in texts.items()}
    return made | {"README.md": CARD.encode(), "model.safetensors": safetensors(tensors())}


def write(folder: Path) -> Path:
    """Write the model to a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files().items():
        (folder / name).write_bytes(data)
    return folder


def write_adapter(folder: Path, seed: int = 1, *, rank: int = 8, strength: float = 0.5) -> Path:
    """Write a LoRA adapter of this model to a folder and return it; other seeds make it say other things."""
    dice, widths = Dice(seed), {"q_proj": HEADS * HEAD_DIM, "v_proj": KV_HEADS * HEAD_DIM}
    weights: dict[str, Tensor] = {}
    for layer in range(LAYERS):
        for module, width in widths.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{at}.lora_A.weight"] = dice.matrix(rank, HIDDEN, strength)
            weights[f"{at}.lora_B.weight"] = dice.matrix(width, rank, strength)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0}
    config |= {"target_modules": list(widths), "bias": "none", "base_model_name_or_path": "babble"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(weights))
    return folder


def profile(folder: Path, name: str = "babble", *, preload: bool = False) -> str:
    """Write the model and return its table of the configuration."""
    return f"""
[models.{name}]
source = "{write(folder)}"
preload = {str(preload).lower()}
dtype = "float32"
context = 8192
max_sequences = 64
engine = {{kv_cache_memory_bytes = {64 << 20}, gpu_memory_utilization = 0.1, enforce_eager = true}}
"""
