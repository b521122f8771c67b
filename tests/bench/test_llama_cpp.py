"""The same model for llama.cpp, and what is said where llama.cpp is not there."""

import json
import struct
import sys
from pathlib import Path

import pytest
from ingled import testing_model

from bench import gguf_model
from bench.contenders import Serve
from bench.http_line import request
from bench.llama_cpp import LlamaCpp, agreement
from bench.shapes import Model


def test_tokens_keep_their_numbers_and_no_name_ends_an_answer() -> None:
    found = gguf_model.tokens(json.loads(testing_model.files()["tokenizer.json"]))
    ids, _ = testing_model.vocabulary()
    special = [ids[token] for token in testing_model.SPECIALS]
    assert [found[number] for number in special] == [
        ("<|text_over|>", gguf_model.CONTROL),
        ("<|im_start|>", gguf_model.CONTROL),
        ("<|turn_over|>", gguf_model.CONTROL),
    ]
    assert all(found[number] == (token, gguf_model.NORMAL) for token, number in ids.items() if number not in special)
    assert testing_model.byte_letters()[0] == gguf_model.NEVER
    with pytest.raises(ValueError, match="not numbered"):
        gguf_model.tokens({"model": {"vocab": {"a": 0, "b": 2}}, "added_tokens": []})


def test_tensors_are_read_as_they_were_written() -> None:
    data = testing_model.safetensors({"a": [1.0, 2.0], "b": [[3.0], [4.0]]})
    found = {name: (shape, struct.unpack("<2f", values)) for name, shape, values in gguf_model.tensors(data)}
    assert found == {"a": ([2], (1.0, 2.0)), "b": ([2, 1], (3.0, 4.0))}
    with pytest.raises(ValueError, match="is F16, not F32"):
        list(gguf_model.tensors(data.replace(b"F32", b"F16")))


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("", "not installed, or not told where"),
        ("/nowhere/python", "has no llama-cpp"),
        (sys.executable, "has no llama"),
    ],
)
def test_without_it_the_row_says_what_to_do(monkeypatch: pytest.MonkeyPatch, python: str, why: str) -> None:
    monkeypatch.setattr(LlamaCpp, "python", python)
    assert why in LlamaCpp.absent()
    assert "docs/performance.md" in LlamaCpp.absent()


def test_its_requests_are_as_greedy_as_those_of_the_others() -> None:
    ours, others = (
        json.loads(request("m", "hi", 3, True, row.more).partition(b"\r\n\r\n")[2]) for row in (LlamaCpp, Serve)
    )
    assert ours == others | {"repeat_penalty": 1.0}


def test_a_model_without_weights_is_refused_by_name() -> None:
    row = LlamaCpp(Model("1b", Path()))
    with pytest.raises(RuntimeError, match="the weights of 1b exist"):
        row.command(1)
    assert agreement([row]) == ""
