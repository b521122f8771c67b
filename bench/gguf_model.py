"""Write the tiny model as a GGUF file, float32, for llama.cpp: the same weights, and tokens of the same numbers.

    PYTHON -m bench.gguf_model FOLDER FILE

PYTHON is one that has the package `gguf` (`bench.llama_cpp`); of this project the script needs nothing. Two things are
not as in the folder, so that answers go on past the end of a turn, as the other servers' `ignore_eos` has them do: what
llama.cpp would take for such an end by its name has another name here, and the end of the text is a byte that the model
never says.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NEVER = "Ā"
"""The byte 0, as byte-level BPE writes it: nothing leads to it in the model's table."""
NORMAL, CONTROL = 1, 3
"""Kinds of token in GGUF."""


def renamed(text: str) -> str:
    """Return a special token, or a template of them, in which llama.cpp knows no end: it goes by these names."""
    return text.replace("<|im_end|>", "<|turn_over|>").replace("<|endoftext|>", "<|text_over|>")


def tokens(tokenizer: dict[str, Any]) -> list[tuple[str, int]]:
    """Return text and kind of each token, by its number. Raises ValueError where numbers are left out."""
    found = {number: (text, NORMAL) for text, number in tokenizer["model"]["vocab"].items()}
    found |= {added["id"]: (renamed(added["content"]), CONTROL) for added in tokenizer["added_tokens"]}
    if sorted(found) != list(range(len(found))):
        raise ValueError("the tokens are not numbered from 0 on")
    return [found[number] for number in range(len(found))]


def tensors(data: bytes) -> Iterator[tuple[str, list[int], bytes]]:
    """Return name, shape and bytes of each tensor of a safetensors file. Raises ValueError for other than float32."""
    begin = 8 + int.from_bytes(data[:8], "little")
    for name, about in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        if about["dtype"] != "F32":
            raise ValueError(f"{name} is {about['dtype']}, not F32")
        start, end = about["data_offsets"]
        yield name, about["shape"], data[begin + start : begin + end]


def write(folder: Path, file: Path) -> None:
    """Write the model of a folder into a file. Raises ValueError for another architecture."""
    import gguf
    import numpy

    config, tokenizer, told = (
        json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
    )
    if config["model_type"] != "qwen3":
        raise ValueError(f"{folder} is a {config['model_type']}, not a qwen3")
    writer = gguf.GGUFWriter(file, "qwen3")
    writer.add_name(folder.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    words = tokens(tokenizer)
    texts = [text for text, _ in words]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types([kind for _, kind in words])
    writer.add_token_merges([f"{NEVER} {NEVER}"])  # there are none, and llama.cpp reads no vocabulary without
    writer.add_eos_token_id(texts.index(NEVER))
    writer.add_add_bos_token(False)
    writer.add_chat_template(renamed(told["chat_template"]))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, shape, values in tensors((folder / "model.safetensors").read_bytes()):
        ours = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(ours, numpy.frombuffer(values, dtype="<f4").reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
