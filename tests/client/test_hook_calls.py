"""What becomes of a call of hooks: no socket, no thread."""

from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.hook_calls import Call, Outcome, Stream, answer
from ingle.hooks import Hook, answered, changed, hook, note, refuse
from ingle.verdicts import Stop, Verdict
from ingle.wire.codec import Message
from ingle.wire.hook_schema import HookReply, HookResult
from msgspec import convert

HI = [{"role": "user", "content": "hi"}]


def call(point: str, value: Message, *hooks: Any, **fields: Any) -> Outcome:
    found: list[Hook] = [each if isinstance(each, Hook) else each.ingle_hook for each in hooks]
    message = {"t": "hook_call", "call": 1, "point": point, "hooks": [each.name for each in found], "value": value}
    stream = fields.pop("stream", None)
    arrived = fields.pop("arrived", monotonic())
    outcome = answer(message | fields, {each.name: each.runners for each in found}, stream, arrived)
    convert({"call": 1, "results": outcome.results, "value": outcome.value, "t": "hook_reply"}, HookReply)
    for result in outcome.results:
        assert convert(result, HookResult).us == result.pop("us")
    return outcome


def test_each_hook_gets_what_the_one_before_it_made() -> None:
    @hook("prompt", name="a1")
    def upper(messages: Any) -> Verdict:
        return changed([{"role": "user", "content": messages[0]["content"].upper()}], letters=2)

    @hook("prompt", name="a2")
    def quiet(call: Call) -> Verdict:
        return note(client=call.client)

    @hook("prompt", name="a3")
    def more(messages: Any, call: Call) -> Verdict:
        return changed([*messages, {"role": "user", "content": call.model}])

    about = {"model": "tiny", "client": "vim", "account": "uid:1"}
    outcome = call("prompt", {"messages": HI, "call": about}, upper, quiet, more)
    assert outcome.value == {"messages": [{"role": "user", "content": "HI"}, {"role": "user", "content": "tiny"}]}
    assert outcome.results == [
        {"hook": "a1", "verdict": "changed", "note": {"letters": 2}},
        {"hook": "a2", "note": {"client": "vim"}},
        {"hook": "a3", "verdict": "changed"},
    ]


def test_what_a_failing_hook_half_did_is_dropped() -> None:
    @hook("prompt", name="b1")
    def vandal(messages: Any) -> None:
        messages[0]["content"] = "nonsense"
        raise KeyError("x")

    @hook("prompt", name="b2")
    def silent(messages: Any) -> None:
        messages.clear()

    seen: list[Any] = []

    @hook("prompt", name="b3")
    def last(messages: Any) -> None:
        seen.append(messages)

    outcome = call("prompt", {"messages": HI}, vandal, silent, last)
    assert seen == [HI]
    assert outcome.value is None
    assert outcome.results == [
        {"hook": "b1", "verdict": "error", "reason": "KeyError: 'x'"}, {"hook": "b2"}, {"hook": "b3"},
    ]  # fmt: skip
    assert [name for name, _ in outcome.errors] == ["b1"]


@pytest.mark.parametrize("verdict", [refuse("no"), answered("42", cached=True)])
def test_a_decision_ends_the_chain(verdict: Verdict) -> None:
    @hook("prompt", name="c1")
    def decides() -> Verdict:
        return verdict

    @hook("prompt", name="c2")
    def never() -> None:
        raise AssertionError

    outcome = call("prompt", {"messages": HI}, decides, never)
    assert [result["verdict"] for result in outcome.results] == [verdict.kind]
    assert outcome.value == (None if verdict.kind == "refuse" else {"text": "42"})


@pytest.mark.parametrize(
    ("point", "shown", "said", "why"),
    [
        ("prompt", HI, "text", "it returned a value of type str: return None, changed(...), refuse(...) or"),
        ("prompt", HI, changed("text"), "changed(a value of type str) at 'prompt': expected a list of messages"),
        ("prompt", HI, changed([]), "expected a list of messages"),
        ("prompt", HI, changed([{"role": "user"}]), "expected a list of messages"),
        ("prompt", HI, answered(3), "answer(a value of type int) at 'prompt': expected the text"),  # type: ignore[arg-type]
        ("request", {}, changed(None), "expected the request"),
        ("request", {}, answered("x"), "'answer' cannot be said at 'request'"),
        ("answer", {"text": ""}, changed({}), "expected the text"),
        ("model", {}, refuse("no"), "'refuse' cannot be said at 'model'"),
    ],
)
def test_what_cannot_be_said_is_the_hooks_failure(point: str, shown: Any, said: Any, why: str) -> None:
    key = {"prompt": "messages", "model": "change"}.get(point, point)
    outcome = call(point, {key: shown}, Hook("d", {point: lambda *_: said}))
    assert outcome.results[0]["verdict"] == "error"
    assert why in outcome.results[0]["reason"]
    assert outcome.value is None


def test_values_at_the_other_points() -> None:
    @hook("request", name="e1")
    def cheaper(request: Any) -> Verdict:
        return changed(request | {"model": "small"})

    @hook("answer", name="e2")
    def shorter(answer: Any) -> Verdict:
        return changed(answer["text"][:2])

    @hook("answer", name="e3")
    def counted(answer: Any) -> Verdict:
        return note(characters=len(answer["text"]), finish=answer["finish"])

    value = {"request": {"model": "big", "op": "chat", "stream": True, "options": {}}}
    assert call("request", value, cheaper).value == {"request": value["request"] | {"model": "small"}}
    outcome = call("answer", {"answer": {"text": "abc", "finish": "stop"}}, shorter, counted)
    assert outcome.value == {"text": "ab"}
    assert outcome.results[1] == {"hook": "e3", "note": {"characters": 2, "finish": "stop"}}


def test_state_comes_back_and_only_new_state_is_sent() -> None:
    seen: list[bytes | None] = []

    @hook("prompt", name="f1")
    def keeps(call: Call) -> None:
        seen.append(call.state)
        if call.state is None:
            call.state = b"secret"

    assert call("prompt", {"messages": HI}, keeps).results == [{"hook": "f1", "state": b"secret"}]
    assert call("prompt", {"messages": HI}, keeps, states={"f1": b"secret"}).results == [{"hook": "f1"}]
    assert seen == [None, b"secret"]


def test_what_waited_too_long_is_not_run() -> None:
    @hook("prompt", name="g1")
    def never() -> None:
        raise AssertionError

    outcome = call("prompt", {"messages": HI}, never, arrived=monotonic() - 9, deadline_ms=100)
    assert outcome.results == [{"hook": "g1", "verdict": "error", "reason": "there was no time left for it"}]


def test_a_hook_that_wants_to_end_the_program_only_fails() -> None:
    def leaves(*_: Any) -> None:
        raise SystemExit(3)

    assert call("prompt", {"messages": HI}, Hook("i", {"prompt": leaves})).results[0]["reason"] == "SystemExit: 3"


def test_each_hook_has_its_own_deadline_within_the_calls() -> None:
    left: list[float] = []
    hooks = {name: {"prompt": lambda _, call: left.append(call.deadline - monotonic())} for name in ("a", "b")}
    message = {"call": 1, "point": "prompt", "hooks": ["a", "b"], "value": {"messages": HI}, "deadline_ms": 300_000}
    answer(message, hooks, None, monotonic(), {"a": 100.0, "b": 900.0})
    assert 50 < left[0] <= 100
    assert 250 < left[1] <= 300


def test_a_hook_that_is_not_here() -> None:
    outcome = call("prompt", {"messages": HI}, Hook("h", {}))
    assert outcome.results[0]["reason"] == "there is no hook 'h' at 'prompt' here"
    assert call("later", {}, Hook("h", {})).results[0]["reason"] == "there is no hook 'h' at 'later' here"


# ---------------------------------------------------------------- streams


class Swap:
    """Replaces `cat` by `dog`, wherever the text is cut."""

    def __init__(self, call: Call) -> None:
        self._held = ""
        self._call = call

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, text: str) -> str:
        text = (self._held + text).replace("cat", "dog")
        keep = next((n for n in (2, 1) if text.endswith("cat"[:n])), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        out, self._held = self._held, ""
        self._call.state = out.encode()
        return out


swap = hook("chunk", name="swap")(Swap)


@hook("chunk", name="loud")
def loud(text: str, call: Call) -> str:
    return text.upper()


def chunk(text: str, stream: Stream, *hooks: Any, **fields: Any) -> Message:
    outcome = call("chunk", {"text": text}, *hooks, stream=stream, **fields)
    out = text if outcome.value is None else outcome.value["text"]
    return {"out": out, "results": outcome.results}


def test_handlers_hold_back_and_are_flushed() -> None:
    stream = Stream()
    assert chunk("a ca", stream, swap) == {
        "out": "a ", "results": [{"hook": "swap", "verdict": "changed", "held": 2}],
    }  # fmt: skip
    assert chunk("t. c", stream, swap, seq=1)["out"] == "dog. "
    flushed = chunk("", stream, swap, seq=2, flush=True)
    assert flushed == {"out": "c", "results": [{"hook": "swap", "verdict": "changed", "state": b"c"}]}
    assert chunk("cat", stream, swap, loud, seq=3)["results"][1]["reason"] == "its handler is not here any more"
    assert chunk("end c", stream, swap, seq=4, last=True)["out"] == "end c"
    assert stream.handlers == {}


def test_what_is_held_and_the_rest_of_an_answer_are_asked_for_by_one_word() -> None:
    asked: list[str] = []

    @hook("chunk", name="adds")
    class Adds:
        held = 0

        def feed(self, text: str) -> str:
            return text

        def flush(self) -> str:
            asked.append("flush")
            return "!"

        def finish(self) -> str:
            asked.append("finish")
            return "?"

    stream = Stream()
    assert chunk("a", stream, Adds)["out"] == "a"
    assert chunk("", stream, Adds, seq=1, flush=True)["out"] == "", "it holds nothing: as a plugin, it is not asked"
    assert chunk("b", stream, Adds, seq=2, last=True)["out"] == "b!"
    assert asked == ["flush"]


@given(st.lists(st.sampled_from(["c", "a", "t", "cat", " ", "ca"]), max_size=12))
def test_handlers_in_a_row_give_the_same_however_the_text_is_cut(pieces: list[str]) -> None:
    stream, out = Stream(), ""
    for seq, piece in enumerate([*pieces, ""]):
        out += chunk(piece, stream, swap, loud, seq=seq, last=seq == len(pieces))["out"]
    assert out == "".join(pieces).replace("cat", "dog").upper()


def test_a_stream_may_begin_anew_and_a_handler_may_leave_it_alone() -> None:
    made: list[bytes | None] = []

    @hook("chunk", name="picky")
    def picky(call: Call) -> Any:
        made.append(call.state)
        return None if call.state else Swap(call)

    stream = Stream()
    chunk("c", stream, picky)
    assert chunk("cat", stream, picky, seq=0, states={"picky": b"x"}) == {"out": "cat", "results": [{"hook": "picky"}]}
    assert made == [None, b"x"]


def test_a_stop_ends_the_chain_and_may_still_say_something() -> None:
    @hook("chunk", name="brake")
    def brake(text: str) -> str:
        raise Stop("enough", "the end")

    outcome = call("chunk", {"text": "a"}, brake, loud, stream=Stream())
    assert outcome.value == {"text": "the end"}
    assert outcome.results == [{"hook": "brake", "verdict": "stop", "reason": "enough"}]


def test_a_handler_that_fails_is_not_asked_again() -> None:
    @hook("chunk", name="weak")
    def weak(text: str) -> Any:
        return None

    stream = Stream()
    first = chunk("a", stream, weak, loud)
    assert first["out"] == "A"
    assert first["results"][0]["reason"] == "it returned a value of type NoneType: expected the text that may go out"
    assert chunk("a", stream, weak, seq=1)["results"][0]["reason"] == "its handler is not here any more"
    assert chunk("a", None, weak, seq=1)["results"][0]["reason"] == "its stream was begun elsewhere"  # type: ignore[arg-type]


def test_a_handler_is_told_that_its_stream_is_over() -> None:
    class Closing(Swap):
        closed = 0

        def close(self) -> None:
            Closing.closed += 1

    stream = Stream()
    chunk("a", stream, Hook("closing", {"chunk": lambda _, call: Closing(call)}))
    stream.close()
    stream.close()
    assert Closing.closed == 1


# ---------------------------------------------------------------- declarations


def test_functions_of_one_name_are_one_hook() -> None:
    @hook("prompt", name="cover", order=10, hold_chars=9, tags=["shell"], trial=False)
    def hide() -> None: ...

    @hook("chunk", name="cover", order=10)
    def show(text: str) -> str:
        return text

    assert hide.ingle_hook is show.ingle_hook  # type: ignore[attr-defined]
    assert hide.ingle_hook.message() == {  # type: ignore[attr-defined]
        "name": "cover", "points": ["prompt", "chunk"], "order": 10, "hold": {"chars": 9},
        "select": {"tags": ["shell"]}, "trial": False,
    }  # fmt: skip
    with pytest.raises(ValueError, match="'cover' has order 10 at another point, and 11 here"):
        hook("answer", name="cover", order=11)(lambda: None)


def test_a_parameter_that_no_hook_has_is_told_at_once() -> None:
    with pytest.raises(TypeError, match="hook 'typo' at 'prompt' has a parameter 'msgs': it may have messages, call"):
        hook("prompt", name="typo")(lambda msgs: None)
