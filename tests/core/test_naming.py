"""From the name in a request to a model."""

from ingled.core.naming import Names


def test_names_aliases_and_the_default_are_found() -> None:
    names = Names({"ember": ["e", "fire"], "coal": []}, "coal")
    assert [names.find(name) for name in ("ember", "fire", None, "ash")] == ["ember", "ember", "coal", None]


def test_a_wrong_name_is_explained_with_the_names_that_exist_and_the_nearest() -> None:
    names = Names({"ember": ["fire"], "coal": []}, "coal")
    assert names.explain("Embr") == ("model 'Embr' does not exist; there are: ember, coal", "did you mean 'ember'?")
    assert names.explain("xyz")[1] == "see `ingle models`"


def test_a_model_of_an_alias_name_wins() -> None:
    names = Names({"a": ["b"], "b": []}, "a")
    assert names.find("b") == "b"
