"""What a token takes in the KV cache, by `config.json` alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingled.models import architecture
from ingled.models.builtin import ember_path

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "hidden_size": 4096, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
}  # fmt: skip


def test_the_built_in_models_token_takes_2048_bytes() -> None:
    found = architecture.read(json.loads((ember_path() / "config.json").read_text()))
    assert (found.name, found.dtype, found.context) == ("Qwen3ForCausalLM", "bfloat16", 32768)
    assert found.token_bytes(found.width("float32")) == 2048


@pytest.mark.parametrize(
    ("more", "bytes"),
    [
        ({}, 131072),  # as the model's makers say: 128 KiB
        ({"num_key_value_heads": None}, 524288),
        ({"head_dim": 64}, 65536),
        ({"layer_types": ["full_attention"] * 8 + ["sliding_attention"] * 24}, 32768),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 36864),
        ({"sliding_window": 4096}, 0),
        ({"sliding_window": 4096, "use_sliding_window": False}, 131072),
        ({"mamba_d_state": 16}, 0),
        ({"num_attention_heads": 0, "num_key_value_heads": 0}, 0),
        ({"num_hidden_layers": "many"}, 0),
    ],
)
def test_each_kind_of_attention_has_its_lower_bound(more: dict[str, object], bytes: int) -> None:
    found = architecture.read(LLAMA | more)
    assert found.token_bytes(found.width("bfloat16")) == bytes


def test_the_text_part_of_a_larger_model_counts() -> None:
    found = architecture.read({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": LLAMA})
    assert (found.name, found.layers, found.dtype) == ("Gemma3ForConditionalGeneration", 32, "bfloat16")


def test_a_quantized_model_says_how() -> None:
    assert architecture.read(LLAMA | {"quantization_config": {"quant_method": "gptq"}}).quantized == "gptq"


@given(st.dictionaries(st.sampled_from([*LLAMA, "text_config", "layer_types"]), st.integers() | st.text() | st.none()))
def test_a_strange_configuration_counts_as_nothing(config: dict[str, object]) -> None:
    assert architecture.read(config).token_bytes(2) >= 0
