"""What is known of a model's folder without an engine."""

import json
import shutil
from pathlib import Path

import pytest
from ingled.models import folder
from ingled.models.builtin import ember_path
from ingled.models.tensors import Unreadable


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ember_path(), tmp_path / "model"))


def test_the_bound_follows_the_dtype(model: Path) -> None:
    found = folder.read(model)
    half = found.weights_bytes("bfloat16")
    assert found.tensors.bytes == half == found.weights_bytes() == found.weights_bytes("float32") // 2
    numbers = 2 * 4 * 2 * 32  # keys and values, layers, heads, numbers of a head
    assert (found.token_bytes("float32"), found.token_bytes()) == (4 * numbers, 2 * numbers)


def test_what_is_stored_in_two_bytes_or_quantized_counts_as_it_is(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    for more in ({"dtype": "bfloat16"}, {"quantization_config": {"quant_method": "awq"}}):
        (model / "config.json").write_text(json.dumps(config | more))
        found = folder.read(model)
        assert found.weights_bytes() == found.tensors.bytes


def test_the_digest_is_that_of_what_decides(model: Path, tmp_path: Path) -> None:
    first = folder.read(model).digest
    assert folder.read(Path(shutil.copytree(model, tmp_path / "copy"))).digest == first
    (model / "README.md").write_text("other words")
    assert folder.read(model).digest == first
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert folder.read(model).digest != first


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 100_000])
def test_a_damaged_configuration_is_named(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(Unreadable, match=r"config\.json"):
        folder.read(model)
