"""The specs keep what they promise to authors: each has an example that works as it stands there."""

import doctest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ingled.hooks
import msgspec
import pytest
from ingle.wire.hook_schema import HookCall, HookReply, Point
from ingled import link
from ingled.hooks import runner
from ingled.hooks.registry import PARAMETERS, Plugin, Registry
from ingled.hooks.specs import POINTS, Specs
from ingled.hooks.streams import Stream

ABOUT = {"account": "uid:1", "model": "m", "op": "chat", "stream": False, "client": "", "tags": [], "context": []}
ANSWER = {"text": "three whole words", "finish": "stop"}

CASES: dict[Point, tuple[dict[str, Any], Any, Any]] = {
    "request": (
        {"request": {"model": "m", "op": "chat", "stream": False, "options": {"max_tokens": 9999}}},
        {"request": {"model": "m", "op": "chat", "stream": False, "options": {"max_tokens": 4096}}},
        None,
    ),
    "prompt": (
        {"messages": [{"role": "user", "content": "hi"}]},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
        None,
    ),
    "chunk": ({"text": "loud"}, {"text": "LOUD"}, None),
    "answer": ({"answer": ANSWER}, None, {"words": 3}),
    "observe": ({"answer": ANSWER}, None, None),
    "model": ({"change": {"model": "m", "state": "ready", "was": "loading", "why": ""}}, None, None),
}
"""By point: the value of a call, and what the example makes of it."""


def example(point: Point) -> str:
    """Return the source of a spec's example."""
    found = doctest.DocTestParser().get_examples(getattr(Specs, POINTS[point]).__doc__)
    return "".join(one.source for one in found)


def plugin(tmp_path: Path, source: str) -> Plugin:
    """Return a plugin of this source, loaded as from the folder."""
    (tmp_path / "x.py").write_text(f"from ingled.hooks import *\n{source}")
    registry = Registry(link.Setup({}, str(tmp_path)))
    assert registry.told[0].problem == ""
    return registry.plugins["x"]


@pytest.mark.parametrize("point", POINTS)
def test_the_example_of_each_spec_does_what_it_says(
    point: Point, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, expected, note = CASES[point]
    name = POINTS[point]
    # The mark is the one thing that the examples leave out.
    loaded = plugin(tmp_path, example(point).replace(f"def {name}", f"@hookimpl\ndef {name}"))
    call = HookCall(1, point, ["x"], {"call": ABOUT, **given}, last=True)
    plugins = {"x": loaded}
    reply = Stream(plugins).run(call, lambda _: None) if point == "chunk" else runner.run(plugins, call, lambda _: None)
    reply = msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=HookReply)
    assert (reply.results[0].verdict, reply.results[0].note) == ("changed" if expected else "unchanged", note)
    assert reply.value == expected
    if point == "observe":
        assert loaded.module.seen == [("uid:1", "three whole words")]
    if point == "model":
        assert capsys.readouterr().out == "m ready\n"


def test_the_first_example_of_all_is_a_plugin(tmp_path: Path) -> None:
    source = (ingled.hooks.__doc__ or "").split("\n\n", 1)[1]
    loaded = plugin(tmp_path, source)
    call = HookCall(1, "prompt", ["x"], {"call": ABOUT, "messages": [{"role": "user", "content": "Bob"}]})
    reply = msgspec.msgpack.encode(runner.run({"x": loaded}, call, lambda _: None))
    assert msgspec.msgpack.decode(reply)["value"] == {"messages": [{"role": "user", "content": "B."}]}


@pytest.mark.parametrize("point", POINTS)
def test_each_spec_has_a_promise_in_one_sentence(point: Point) -> None:
    text = (getattr(Specs, POINTS[point]).__doc__ or "").strip()
    assert text.splitlines()[0].endswith(".")
    assert ">>>" in text


def test_every_point_has_its_spec_and_no_other_is_there() -> None:
    assert set(POINTS.values()) == set(PARAMETERS) == {name for name in vars(Specs) if name.startswith("ingled_")}


def test_what_authors_import_is_all_there() -> None:
    assert sorted(ingled.hooks.__all__) == ingled.hooks.__all__
    assert SimpleNamespace(**{name: getattr(ingled.hooks, name) for name in ingled.hooks.__all__})
