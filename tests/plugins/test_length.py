"""Bounds for prompts and answers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle_plugins import length
from ingle_plugins.length import Options
from ingled.hooks import Call, Stop
from ingled.testing import DaemonFixture, Wire


def asked(options: Options, **sampling: Any) -> Any:
    return length.ingled_request({"model": None, "op": "chat", "stream": True, "options": sampling}, options)


def test_tokens_are_lowered_and_never_raised() -> None:
    bounded = Options(answer_tokens=10)
    for given_tokens in (11, None):
        verdict = asked(bounded, max_tokens=given_tokens, temperature=0.5)
        assert verdict.value["options"] == {"max_tokens": 10, "temperature": 0.5}
    assert asked(bounded, max_tokens=10) is None
    assert asked(bounded, max_tokens=3) is None
    assert asked(Options(answer_chars=5)) is None
    vectors: Any = {"model": None, "op": "embed", "stream": False, "options": {}}
    assert length.ingled_request(vectors, bounded) is None, "they have no tokens of an answer"


def test_a_prompt_is_refused_from_one_character_too_many_on() -> None:
    messages: Any = [{"role": "system", "content": "ab"}, {"role": "user", "content": "c"}]
    assert length.ingled_prompt(messages, Options(prompt_chars=3)) is None
    verdict = length.ingled_prompt(messages, Options(prompt_chars=2))
    assert verdict is not None and verdict.kind == "refuse"
    assert verdict.reason == "the messages have 3 characters, and 2 are allowed here: send less"


@given(st.lists(st.text(max_size=8), max_size=10), st.integers(1, 40))
def test_an_answer_is_cut_at_the_same_place_however_it_comes(pieces: list[str], most: int) -> None:
    handler = length.ingled_chunk(Call("chunk"), Options(answer_chars=most))
    assert handler is not None
    out, stopped = "", False
    for piece in pieces:
        try:
            out += handler.feed(piece)
        except Stop as stop:
            out, stopped = out + stop.text, True
            break
    text = "".join(pieces)
    assert (out, stopped) == (text[:most], len(text) > most)


@pytest.mark.parametrize(
    ("options", "said"),
    [(Options(), "nothing is bounded"), (Options(prompt_chars=-1), "prompt_chars: is below 0")],
)
def test_options_that_bound_nothing_are_refused(options: Options, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        length.check(options)


def test_bounds_in_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "length.py").write_text("from ingle_plugins.length import *\n")
    config = f'[daemon]\nplugin_folder = "{tmp_path}"\n'
    config += "[plugins.length]\ndeadline_ms = 30_000\n"
    config += "[plugins.length.options]\nprompt_chars = 40\nanswer_tokens = 5\nanswer_chars = 12\n"
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        end = client.read(client.ask("x" * 41))[1]
        assert (end["code"], "40 are allowed here" in end["message"]) == ("refused_by_hook", True)
        for stream in (True, False):
            text, end = client.read(client.ask("a b c d e f g h", stream=stream))
            assert ((text or end["result"]["text"]).split(), end["finish"]) == (["a", "b", "c", "d", "e"], "length")
            text, end = client.read(client.ask("loooong wooords here", stream=stream))
            assert (text or end["result"]["text"], end["finish"]) == ("loooong wooo", "content_filter")
