"""json_repair: what is mended means what it meant, and nothing is guessed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle_plugins import json_repair
from ingle_plugins.json_repair import Options, mend
from ingled.hooks import Call
from ingled.testing import DaemonFixture, Wire

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(LEAVES, lambda more: st.lists(more, max_size=4) | st.dictionaries(TEXT, more, max_size=4))
GROUPS = st.lists(VALUES, max_size=4) | st.dictionaries(TEXT, VALUES, max_size=4)


def badly(value: Any, data: st.DataObject) -> str:
    """Write a value as people and models do."""

    def some(*choices: str) -> str:
        return data.draw(st.sampled_from(choices))

    def space() -> str:
        return some("", "", " ", "\n  ", " // so\n", " /* and, so: */ ")

    match value:
        case None:
            return some("null", "None")
        case bool():
            return str(value) if some("", "x") else str(value).lower()
        case str() if some("'", '"') == "'":
            return "'" + json.dumps(value, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
        case str():
            text = json.dumps(value, ensure_ascii=False)
            return text.replace("\\n", "\n").replace("\\t", "\t") if "\\\\" not in text else text
        case list():
            inner = ",".join(space() + badly(one, data) + space() for one in value)
            return f"[{inner}{some('', ',') if value else ''}{space()}]"
        case dict():
            inner = ",".join(
                f"{space()}{badly(key, data)}{space()}:{space()}{badly(one, data)}{space()}"
                for key, one in value.items()
            )
            return f"{{{inner}{some('', ',') if value else ''}{space()}}}"
    return json.dumps(value)


@given(GROUPS, st.data())
def test_what_is_written_badly_means_what_it_meant(value: Any, data: st.DataObject) -> None:
    text = badly(value, data)
    text = data.draw(
        st.sampled_from(["{}", "Here it is:\n```json\n{}\n```\nDo you need more?", "It is {} , I think."])
    ).replace("{}", text)
    mended = mend(text)
    if json_repair.valid(text):
        assert mended is None
    else:
        assert mended is not None, text
        assert json.loads(mended.text) == value


@given(GROUPS, st.sampled_from([None, 2]))
def test_json_is_left_as_it_is(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert json_repair.valid(text) and mend(text) is None


def begins(part: Any, whole: Any) -> bool:
    """Tell whether a value is the beginning of another."""
    if isinstance(part, list) and isinstance(whole, list):
        pairs = list(zip(part, whole, strict=False))
        return len(part) <= len(whole) and all(
            begins(a, b) if at == len(part) - 1 else a == b for at, (a, b) in enumerate(pairs)
        )
    if isinstance(part, dict) and isinstance(whole, dict):
        keys = list(part)
        return keys == list(whole)[: len(keys)] and all(
            begins(part[key], whole[key]) if key == keys[-1] else part[key] == whole[key] for key in keys
        )
    return bool(part == whole)


@given(GROUPS, st.data())
def test_what_is_cut_ends_behind_what_was_complete(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    cut = text[: data.draw(st.integers(1, len(text)))]
    mended = mend(cut, close=True)
    if cut == text:
        assert mended is None
    else:
        assert mended is not None, cut
        assert begins(json.loads(mended.text), value), (mended.text, value)
        assert mended.mends == ["end"]
        assert mend(cut) is None, "only where the answer has ended for its length"


@given(st.text("{}[]:,\"'\\ abtrue1-.\n/#", max_size=30), st.booleans())
def test_whatever_comes_out_is_json(text: str, close: bool) -> None:
    mended = mend(text, close)
    assert mended is None or json.loads(mended.text) is not None or mended.text == "null"


@pytest.mark.parametrize(
    "text",
    [
        "no JSON at all",
        '{"a": "he said "no" to it"}',
        '{"a" 1}',
        '{"a": 1 "b": 2}',
        '{"a": 1} and {"b": 2}',
        "[1,,2]",
        "[,1]",
        '{"a": nope}',
        "[01]",
        '["\\x41"]',
        "[" * 300 + "]" * 300,
        "```\n[1,]\n```\n```\n[2,]\n```",
        '{"a": [1, 2}',
    ],
)
def test_nothing_is_guessed(text: str) -> None:
    assert mend(text) is None


def answered(text: str, finish: str = "stop", stream: bool = False, asked: bool = False, **options: Any) -> Any:
    form = {"response_format": {"type": "json_object"}} if asked else {}
    answer: Any = {"text": text, "finish": finish, "model": {"name": "m"}, "usage": {}, "options": form, "hooks": []}
    return json_repair.ingled_answer(answer, Call("answer", stream=stream), Options(**options))


def test_only_what_was_to_be_json_is_looked_at() -> None:
    assert answered("see [1,] there") is None
    assert answered("see [1,] there", asked=True).value == "[1]"
    assert answered("[1,]", when="asked") is None
    assert answered("[1,]").value == "[1]"
    assert answered("It is\n```json\n[1,]\n```").value == "[1]"
    assert answered("[1]").note == {"json": "valid"}
    assert answered("[1 2]").note == {"json": "broken"}


def test_a_stream_is_only_told_of() -> None:
    verdict = answered("[1,]", stream=True)
    assert (verdict.kind, verdict.note) == ("unchanged", {"json": "broken", "mendable": ["commas"]})


def test_an_answer_that_ended_for_its_length_is_closed_where_that_is_wanted() -> None:
    assert answered('{"a": [1, 2', "length").value == '{"a": [1]}'
    assert answered('{"a": [1, 2', "stop").note == {"json": "broken"}
    assert answered('{"a": [1, 2', "length", close=False).note == {"json": "broken"}


def test_a_long_answer_takes_time_in_proportion() -> None:
    """Twice as long, and not four times: counted in steps, not in seconds."""
    steps = []
    for size in (2000, 4000):
        text = "[" + "{'a': 'b'}, " * size + "]"
        mender = json_repair.Mender(text, 0, False)
        mender.value()
        steps.append(len(mender.out))
    assert steps[1] < 2.1 * steps[0]


def test_in_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "json_repair.py").write_text("from ingle_plugins.json_repair import *\n")
    with DaemonFixture(f'[daemon]\nplugin_folder = "{tmp_path}"\n') as daemon, Wire(daemon.socket) as client:
        _, end = client.read(client.ask("{'name': 'Ada', 'born': 1815,}", stream=False))
        assert json.loads(end["result"]["text"]) == {"name": "Ada", "born": 1815}
        (told,) = end["hooks"]
        assert (told["verdict"], told["note"]) == ("changed", {"json": "mended", "mends": ["commas", "quotes"]})
        text, end = client.read(client.ask("[1, 2,]"))
        assert (text, end["hooks"][0]["note"]["json"]) == ("[1, 2,]", "broken")
