"""What the headers of an adapter tell, and of whom it is an adapter."""

from pathlib import Path

import pytest
from ingled.models import adapter
from ingled.models.tensors import Unreadable
from ingled.testing_model import safetensors, write, write_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("base"))


def test_a_good_one_is_read(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", rank=16)
    assert adapter.read(folder).rank == 16
    adapter.check(folder, base)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{nope", "not JSON"),
        ("[]", "no LoRA adapter"),
        ('{"peft_type": "IA3"}', "no LoRA adapter"),
        ('{"peft_type": "LORA", "r": "8"}', "the rank, is '8'"),
        ('{"peft_type": "LORA", "r": 0}', "the rank, is 0"),
    ],
)
def test_a_configuration_of_something_else_is_told(tmp_path: Path, said: str, words: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text(said)
    with pytest.raises(Unreadable, match=words):
        adapter.read(folder)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="there is no such folder"):
        adapter.read(tmp_path / "nowhere")
    with pytest.raises(Unreadable, match=r"adapter_config\.json"):
        adapter.read(tmp_path)
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(Unreadable, match=r"adapter_model\.safetensors"):
        adapter.read(folder)


def test_one_of_another_model_is_told_by_its_shapes(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    for a, b, words in (
        (32, 64, "takes 64 numbers there, and 32 here"),
        (64, 32, "makes 64 numbers there, and 32 here"),
    ):
        weights = {f"{at}.lora_A.weight": [[0.0] * a] * 8, f"{at}.lora_B.weight": [[0.0] * 8] * b}
        (folder / "adapter_model.safetensors").write_bytes(safetensors(weights))
        with pytest.raises(Unreadable, match=words):
            adapter.check(folder, base)


def test_what_the_base_does_not_name_is_left_to_the_engine(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    weights = {"base_model.model.elsewhere.lora_A.weight": [[0.0]], "something.else": [[0.0]]}
    (folder / "adapter_model.safetensors").write_bytes(safetensors(weights))
    adapter.check(folder, base)
