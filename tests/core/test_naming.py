"""From the name in a request to a model."""

from ingled.core.accounts import MEMBER, Rights
from ingled.core.naming import Names


def test_names_aliases_and_the_default_are_found() -> None:
    names = Names({"ember": ["e", "fire"], "coal": []}, "coal")
    assert [names.find(name) for name in ("ember", "fire", None, "ash")] == ["ember", "ember", "coal", None]


def test_a_wrong_name_is_explained_with_the_names_that_exist_and_the_nearest() -> None:
    names = Names({"ember": ["fire"], "coal": []}, "coal")
    wrong = names.usable("Embr", "uid:5", MEMBER)
    assert wrong == ("no_such_model", "model 'Embr' does not exist; there are: ember, coal", "did you mean 'ember'?")
    assert names.usable("xyz", "uid:5", MEMBER)[2] == "see `ingle models`"


def test_models_that_an_account_may_not_use_are_told_to_it_by_no_name() -> None:
    names = Names({"ember": ["fire"], "coal": [], "coal-2": ["emberald"]}, "ember")
    some = Rights(models=("coal",), why="rule 1")
    message = "model 'embe' does not exist; there are: coal"
    assert names.usable("embe", "uid:5", some) == ("no_such_model", message, "see `ingle models`")
    assert names.usable("cole", "uid:5", some)[2] == "did you mean 'coal'?"
    none = names.usable("coa", "uid:5", Rights(models=()))
    assert none[1:] == ("model 'coa' does not exist; there is none that you may use", "see `ingle models`")
    for asked, said in (("fire", "model 'fire'"), ("ember", "model 'ember'"), (None, "the default model")):
        code, text, _ = names.usable(asked, "uid:5", some)
        assert (code, text) == ("not_allowed", f"account uid:5 may not use {said}: rule 1")


def test_what_is_said_of_others_names_only_what_one_may_see() -> None:
    names = Names({"ember": [], "coal": [], "coal-2": []}, "ember")
    text = "coal: ember, coal-2 makes room; model 'ember' is busy, `ingle unpin coal-2`; coal-25, remember"
    assert names.blot(text, MEMBER) == text
    blotted = text.replace("ember,", "(another),").replace("'ember'", "'(another)'").replace("coal-2 ", "(another) ")
    assert names.blot(text, Rights(models=("coal",))) == blotted.replace("unpin coal-2", "unpin (another)")


def test_a_model_of_an_alias_name_wins() -> None:
    names = Names({"a": ["b"], "b": []}, "a")
    assert names.find("b") == "b"
