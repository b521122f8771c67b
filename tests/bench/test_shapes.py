"""Models of any size without weights."""

import json
from pathlib import Path

from ingled.config import load

from bench.contenders import flags
from bench.shapes import NAME, SHAPES, TINY, VOCABULARY, invented, make


def test_the_tiny_model_is_a_profile_that_the_daemon_takes(tmp_path: Path) -> None:
    model = make(TINY, tmp_path / "model", 256)
    assert (model.folder / "model.safetensors").exists()
    assert not model.dummy
    file = tmp_path / "ingled.toml"
    file.write_text(model.profile())
    spec = load(file, socket=tmp_path / "s").spec(NAME)
    assert spec.options == model.options
    assert spec.source == str(model.folder)


def test_a_shape_has_a_word_for_every_token_and_no_weights(tmp_path: Path) -> None:
    model = make("1b", tmp_path, 64)
    assert model.dummy
    assert not list(tmp_path.glob("*.safetensors"))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["hidden_size"] == SHAPES["1b"].hidden
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    ids = {*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])}
    assert ids == set(range(VOCABULARY))


def test_no_two_tokens_have_the_same_invented_word() -> None:
    assert len({invented(number) for number in range(5000)}) == 5000


def test_options_become_those_of_the_command() -> None:
    options = {"enforce_eager": True, "enable_x": False, "max_num_seqs": 4}
    assert flags(options) == ["--enforce-eager", "--no-enable-x", "--max-num-seqs=4"]
