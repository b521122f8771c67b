"""The files of the built-in model: complete, small, and in keeping with the scripts that made them. Without torch."""

import json
import math
import struct
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ingled.models.builtin import EMBER_OPTIONS, ember_path

from bench.ember.examples import training
from bench.ember.model_sizes import CONTEXT, SIZES, parameters

MEBIBYTE = 1 << 20
CONFIG: dict[str, Any] = json.loads((ember_path() / "config.json").read_text())


def test_ember_is_complete_and_small() -> None:
    sizes = {file.name: file.stat().st_size for file in ember_path().iterdir()}
    assert set(sizes) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(sizes.values()) < 8 * MEBIBYTE
    assert all(size > 50 for size in sizes.values())


def test_the_options_fit_the_model() -> None:
    assert EMBER_OPTIONS["max_model_len"] == 8192 <= CONFIG["max_position_embeddings"] == CONTEXT
    heads = CONFIG["num_hidden_layers"] * CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    assert EMBER_OPTIONS["kv_cache_memory_bytes"] // (heads * 2 * 4) == 32768


def test_the_weights_are_all_there() -> None:
    with (ember_path() / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(*struct.unpack("<Q", file.read(8))))
        begin = file.tell()
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {one["dtype"] for one in header.values()} == {"BF16"}
    counts = {name: math.prod(one["shape"]) for name, one in header.items()}
    assert sum(counts.values()) == parameters(SIZES["small"], CONFIG["vocab_size"])
    assert len(counts) == 2 + 11 * CONFIG["num_hidden_layers"]
    assert header["model.embed_tokens.weight"]["shape"] == [CONFIG["vocab_size"], CONFIG["hidden_size"]]
    for name, one in header.items():
        first, end = one["data_offsets"]
        assert end - first == 2 * counts[name]
    whole = (ember_path() / "model.safetensors").stat().st_size
    assert whole == begin + max(one["data_offsets"][1] for one in header.values())


def test_the_card_states_figures_license_and_limits() -> None:
    card = (ember_path() / "README.md").read_text()
    for words in ("license: apache-2.0", "Apache-2.0", "held out", "handwritten", "demonstration", "cannot do", "%"):
        assert words in card


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_file(str(ember_path() / "tokenizer.json"))


def test_the_tokenizer_is_what_its_script_makes(tokenizer: Any) -> None:
    from bench.ember.tokenizer import CHAT_TEMPLATE, tokenizer_config, tokenizer_json, vocabulary

    written = json.loads((ember_path() / "tokenizer.json").read_text())
    assert written == tokenizer_json(vocabulary())
    assert json.loads((ember_path() / "tokenizer_config.json").read_text()) == tokenizer_config(CONTEXT)
    assert "add_generation_prompt" in CHAT_TEMPLATE
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]


def test_any_text_comes_back_from_the_tokenizer(tokenizer: Any) -> None:
    texts = ["", " ", "find src -size +10M", "grün, 火, \x00\t\r\n", "sed -i 's/a/b/g' x", " two  blanks ", "O'Neill's"]
    texts += [text for one in islice(training(), 300) for text in (one.request, one.answer)]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_arguments_are_read_letter_by_letter(tokenizer: Any) -> None:
    assert tokenizer.encode(" the").tokens == ["Ġthe"]
    assert tokenizer.encode(" xy").tokens == ["Ġ", "x", "y"]
    assert tokenizer.encode("wc -l report42").tokens == ["wc", "Ġ-", "l", "Ġ", *"report42"]


def test_an_answer_ends_where_the_chat_template_says(tokenizer: Any) -> None:
    generation = json.loads((ember_path() / "generation_config.json").read_text())
    ids = {tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")}
    assert set(generation["eos_token_id"]) == ids
    assert CONFIG["eos_token_id"] == tokenizer.token_to_id("<|im_end|>")
    assert Path(ember_path() / "tokenizer_config.json").read_text().count("<|im_end|>") >= 2
