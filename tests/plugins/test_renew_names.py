"""Which names of another generator of test data are kept, and how."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from ingle_plugins.redact import names

SCRIPT = Path(__file__).parents[2] / "plugins" / "renew_names.py"


@pytest.fixture(scope="module")
def renew() -> ModuleType:
    spec = importlib.util.spec_from_file_location("renew_names", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_new_names_of_one_word_with_a_capital_are_kept(renew: ModuleType) -> None:
    found = ["Ķēniņš", "ķēniņš", "Ābols", "van Dyk", "Van Dyk", "Server", "The", "Known", "Q", "علي", "Ābols"]
    assert renew.wanted(found, frozenset({"known"})) == ["abols", "kenins"]


def test_they_are_written_in_lines_and_read_again(renew: ModuleType) -> None:
    words = [f"name{number}" for number in range(100)]
    text = renew.wrapped(words)
    assert text.split() == words
    assert max(map(len, text.splitlines())) <= renew.LINE and text.endswith("\n")


def test_what_is_shipped_is_sorted_and_is_no_word_that_begins_sentences() -> None:
    for file in ("given_names", "surnames"):
        shipped = names.shipped(file)
        assert shipped == sorted(set(shipped)) and len(shipped) > 5000
        assert not names.no_names().intersection(shipped)
