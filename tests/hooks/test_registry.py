"""What is wrong with a plugin is told with its file, line and reason; what is right is offered as configured."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ingle.wire.hook_schema import Hold, HookOffer, Select
from ingled import link
from ingled.hooks.finding import PRIVATE
from ingled.hooks.registry import Registry

GOOD = "@hookimpl\ndef ingled_prompt(messages):\n    return None\n"

Load = Callable[..., link.Plugin]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Load one file, `x.py`, with these options of its table; returns what is told of it."""

    def load(text: str, name: str = "x", **choice: Any) -> link.Plugin:
        (tmp_path / f"{name}.py").write_text("from ingled.hooks import *\n" + text)
        (told,) = Registry(link.Setup({name: link.Choice(**choice)}, str(tmp_path))).told
        return told

    yield load
    for name in [name for name in sys.modules if name.startswith(PRIVATE)]:
        del sys.modules[name]


def test_a_plugin_is_offered_with_its_own_defaults(load: Load, tmp_path: Path) -> None:
    told = load("VERSION = '1.2'\nHOOK = Hook(order=7, deadline_ms=20, on_error='refuse', hold=Hold(5, 6))\n" + GOOD)
    assert told == link.Plugin(
        "x",
        "1.2",
        str(tmp_path / "x.py"),
        HookOffer(0, "x", ["prompt"], "1.2", 7, Select(), 20, "refuse", False, "all", Hold(5, 6)),
        digest=hashlib.sha256((tmp_path / "x.py").read_bytes()).hexdigest(),
    )


def test_the_configuration_goes_before_them(load: Load) -> None:
    select = Select(models=["a"], tags=["shell"])
    told = load("HOOK = Hook(order=7, on_error='skip')\n" + GOOD, order=9, on_error="refuse", trial=True, select=select)
    assert told.offer == HookOffer(0, "x", ["prompt"], "0", 9, select, 1000, "refuse", True, "all")


def test_points_stand_in_the_order_of_a_request(load: Load) -> None:
    told = load("@hookimpl\ndef ingled_model(change): ...\n@hookimpl\ndef ingled_chunk(): ...\n" + GOOD)
    assert told.offer is not None and told.offer.points == ["prompt", "chunk", "model"]


PROBLEMS = {
    "a misspelled hook": (
        "@hookimpl\ndef ingled_promt(messages): ...",
        "3: ingled_promt is no hook; did you mean 'ingled_prompt'?",
    ),
    "without mark as well": (
        "def ingled_promt(messages): ...",
        "2: ingled_promt is no hook; did you mean 'ingled_prompt'?",
    ),
    "a marked function of any name": (
        "@hookimpl\ndef other(): ...",
        "3: other is no hook; there are ingled_request, ingled_prompt,",
    ),
    "a function that is not marked": (
        "\ndef ingled_prompt(messages): ...",
        "3: ingled_prompt is not marked with @hookimpl",
    ),
    "a wrong parameter": (
        "@hookimpl\ndef ingled_prompt(mesages): ...",
        "3: ingled_prompt has no parameter 'mesages'; did you mean 'messages'? (there are messages, call, options)",
    ),
    "a default": (
        "@hookimpl\ndef ingled_prompt(messages, call=None): ...",
        "3: parameter 'call' of ingled_prompt has a default",
    ),
    "async": (
        "@hookimpl\nasync def ingled_prompt(messages): ...",
        "3: ingled_prompt is async; hooks are plain functions",
    ),
    "a wrapper": ("@hookimpl(wrapper=True)\ndef ingled_prompt(messages): yield", "3: ingled_prompt is a wrapper"),
    "another name for it": (
        "@hookimpl(specname='ingled_model')\ndef ingled_prompt(): ...",
        "3: ingled_prompt says specname",
    ),
    "a syntax error": ("\n\ndef f(:\n", "4: SyntaxError: invalid syntax"),
    "an import that fails": (
        "import json\nimport nowhere_at_all",
        "3: ModuleNotFoundError: No module named 'nowhere_at_all'",
    ),
    "an error below it": ("import json\njson.loads('{')", "3: JSONDecodeError: Expecting property name"),
    "an exit": ("raise SystemExit(3)", "2: SystemExit: 3"),
    "no hook at all": ("x = 1", "1: it implements no hook; there are ingled_request"),
    "no Hook": ("HOOK = {'order': 1}\n" + GOOD, "2: HOOK is no ingled.hooks.Hook(...)"),
    "an order out of range": ("\nHOOK = Hook(order=5000)\n" + GOOD, "3: HOOK.order is 5000: expected `int` <= 1000"),
    "a hold out of range": ("HOOK = Hook(hold=Hold(ms=0))\n" + GOOD, "2: HOOK.hold.ms is 0: expected `int` >= 1"),
    "no struct": ("class Options: ...\n" + GOOD, "2: Options is no msgspec.Struct"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_is_wrong_with_a_plugin_is_told_with_file_and_line(load: Load, tmp_path: Path, case: str) -> None:
    text, problem = PROBLEMS[case]
    told = load(text)
    assert told.offer is None
    assert told.problem.startswith(f"{tmp_path}/x.py:{problem}")
    assert "\n" not in told.problem


OPTIONS = (
    "import msgspec\nfrom typing import Annotated\n"
    "class Options(msgspec.Struct):\n    size: Annotated[int, msgspec.Meta(ge=1)]\n    names: list[str] = []\n"
    "def check(options):\n    if options.names == ['x']:\n        raise ValueError('names[0]: x is no name')\n"
    "    if options.size == 99:\n        raise ValueError('too much')\n"
)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, ".size is missing"),
        ({"size": "a"}, ".size is 'a': expected `int`, got `str`"),
        ({"size": 0}, ".size is 0: expected `int` >= 1"),
        ({"size": 1, "names": ["a", 2]}, ".names[1] is 2: expected `str`, got `int`"),
        ({"sise": 1}, ".sise: unknown key; did you mean 'size'? (allowed: size, names)"),
        ({"size": 1, "names": ["x"]}, ".names[0]: x is no name"),
        ({"size": 99}, ": too much"),
    ],
)
def test_wrong_options_are_told_with_key_value_and_rule(load: Load, options: dict[str, Any], problem: str) -> None:
    assert load(OPTIONS + GOOD, options=options).problem == f"plugins.x.options{problem}"


def test_right_options_are_no_problem(load: Load) -> None:
    assert load(OPTIONS + GOOD, options={"size": 3, "names": ["a"]}).problem == ""


def test_options_that_nobody_wants_are_a_problem(load: Load) -> None:
    assert load(GOOD, options={"a": 1}).problem == "plugins.x.options.a: plugin 'x' has no options"


def test_a_file_with_an_impossible_name_is_told(load: Load) -> None:
    assert "the plugin's name is 'Big Plans': it has small letters" in load(GOOD, name="Big Plans").problem


def test_a_plugin_with_a_problem_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from ingled.hooks import *\n" + GOOD)
    (tmp_path / "b.py").write_text("syntax error")
    (tmp_path / "c.py").write_text("from ingled.hooks import *\n" + GOOD)
    registry = Registry(link.Setup({"d": link.Choice()}, str(tmp_path)))
    assert [(one.name, bool(one.problem)) for one in registry.told] == [
        ("a", False), ("b", True), ("c", False), ("d", True),
    ]  # fmt: skip
    assert list(registry.plugins) == ["a", "c"]


def test_which_plugins_run(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "_helper", ".hidden"):
        (tmp_path / f"{name}.py").write_text("from ingled.hooks import *\n" + GOOD)
    (tmp_path / "notes.txt").touch()

    def names(**setup: Any) -> list[str]:
        return [one.name for one in Registry(link.Setup(**{"plugins": {}, "folder": str(tmp_path)} | setup)).told]

    assert names() == ["a", "b", "c"]
    assert names(plugins={"a": link.Choice(enabled=False)}) == ["b", "c"]
    assert names(without=["b"]) == ["a", "c"]
    assert names(only=["b"]) == ["b"]
    assert names(only=["b"], plugins={"z": link.Choice()}) == ["b"]
    assert names(folder=None) == []
    assert names(folder=str(tmp_path / "nowhere")) == []


def test_a_name_that_is_nobodys_is_told(tmp_path: Path) -> None:
    (tmp_path / "redact.py").write_text("from ingled.hooks import *\n" + GOOD)
    told = Registry(link.Setup({"redct": link.Choice()}, str(tmp_path))).told
    assert told[1].problem.endswith("has this name; did you mean 'redact'?")


def test_a_quick_edit_is_seen_though_size_and_second_are_the_same(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert load("VERSION = '1'\n" + GOOD).version == "1"
    assert load("VERSION = '2'\n" + GOOD).version == "2"
