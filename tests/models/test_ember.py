"""The built-in model is what its script makes, to the byte, and small."""

import importlib.util
from pathlib import Path

from ingled.models.builtin import EMBER_OPTIONS, ember_path

SCRIPT = Path(__file__).parents[2] / "bench" / "ember" / "random_model.py"


def test_ember_is_what_its_script_makes() -> None:
    found = importlib.util.spec_from_file_location("random_model", SCRIPT)
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    made: dict[str, bytes] = module.files()
    assert {file.name for file in ember_path().iterdir()} == set(made)
    for name, data in made.items():
        assert (ember_path() / name).read_bytes() == data, name


def test_ember_is_small_and_long() -> None:
    assert sum(file.stat().st_size for file in ember_path().iterdir()) < 1 << 20
    assert EMBER_OPTIONS["max_model_len"] >= 8192
