"""The echo engine alone: the answer is the question, and it counts, merges, stops and refuses like vLLM."""

import asyncio
from typing import Any

import msgspec
import pytest
from ingle.wire.schema import ChatBody, CompleteBody
from ingled.link import Spec
from ingled.worker.echo_answer import words_of
from ingled.worker.echo_engine import EchoEngine, plan
from ingled.worker.engine import Delta, EngineDead, EngineRefused, LoadError, Request


def chat(text: str, **options: Any) -> ChatBody:
    return msgspec.convert({"messages": [{"role": "user", "content": text}], **options}, ChatBody)


async def loaded(sampling: dict[str, Any] | None = None, **echo: Any) -> EchoEngine:
    engine = EchoEngine(Spec("m", "echo", "", sampling=sampling or {}, echo=echo))
    await engine.load(lambda phase, percent: None)
    return engine


async def deltas(engine: EchoEngine, body: ChatBody | CompleteBody, **more: Any) -> list[Delta]:
    return [delta async for delta in engine.deltas(Request("r", body, **more))]


def answer(body: ChatBody | CompleteBody, *, sampling: dict[str, Any] | None = None, **echo: Any) -> tuple[str, Any]:
    async def run() -> list[Delta]:
        return await deltas(await loaded(sampling, **echo), body)

    found = asyncio.run(run())
    return "".join(delta.text for delta in found), found[-1].end


@pytest.mark.parametrize("text", ["one", "one two", " lead  and\ttail \n", "äß €", "\n"])
def test_words_are_the_text(text: str) -> None:
    assert "".join(words_of(text)) == text


def test_the_answer_is_the_last_user_message() -> None:
    body = msgspec.convert(
        {
            "messages": [
                {"role": "system", "content": "be nice"},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "first"},
                {"role": "user", "content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}]},
            ]
        },
        ChatBody,
    )
    text, end = answer(body)
    assert text == "hello world"
    assert (end.finish, end.prompt, end.completion, end.stop) == ("stop", 10, 2, None)


def test_a_completion_echoes_its_prompt_and_one_token_is_one_word() -> None:
    async def run() -> list[Delta]:
        return await deltas(await loaded(), CompleteBody(prompt="a b c"))

    found = asyncio.run(run())
    assert [(delta.text, delta.tokens) for delta in found] == [("a ", [0]), ("b ", [1]), ("c", [2])]
    assert found[-1].end is not None and found[-1].end.prompt == 3


def test_max_tokens_cuts_and_ignore_eos_fills() -> None:
    assert answer(chat("a b c", max_tokens=2))[0] == "a b"
    assert answer(chat("a b c", max_tokens=2))[1].finish == "length"
    assert answer(chat("a b c", max_tokens=3))[1].finish == "stop"
    text, end = answer(chat("a b", max_tokens=5, ignore_eos=True))
    assert (text, end.finish, end.completion) == ("a b a b a", "length", 5)
    assert answer(chat("a b"), tokens=7)[1].completion == 7
    assert answer(chat("a b c"), sampling={"max_tokens": 1})[0] == "a"


def test_a_stop_string_ends_the_answer_and_is_named() -> None:
    text, end = answer(chat("one two three four", stop=["three", "two t"]))
    assert (text, end.finish, end.stop, end.completion) == ("one ", "stop", "two t", 3)


def test_a_prompt_without_room_is_refused_with_both_numbers() -> None:
    with pytest.raises(EngineRefused) as caught:
        answer(chat("a b c d"), context=5)
    assert caught.value.code == "prompt_too_long"
    assert "5 tokens" in caught.value.message and "may have 5" in caught.value.message


def test_max_tokens_beyond_the_room_is_refused_never_cut() -> None:
    with pytest.raises(EngineRefused) as caught:
        answer(chat("a b c", max_tokens=7), context=10)
    assert (caught.value.code, caught.value.at) == ("bad_value", "body.max_tokens")
    assert "room for 6 of 10" in caught.value.message
    assert answer(chat("a b c", max_tokens=6), context=10)[0] == "a b c"


def test_cached_tokens_are_the_longest_common_prefix_of_the_same_salt() -> None:
    async def run() -> list[int]:
        engine = await loaded()
        found = []
        for salt, text in (("x", "a b c"), ("x", "a b c"), ("x", "a b d"), ("y", "a b c"), ("y", "q")):
            end = (await deltas(engine, chat(text), salt=salt))[-1].end
            assert end
            found.append(end.cached)
        return found

    assert asyncio.run(run()) == [0, 3, 3, 0, 1]


def test_what_is_not_pulled_merges() -> None:
    async def run() -> list[str]:
        engine = await loaded()
        stream = engine.deltas(Request("r", chat("a b c d")))
        found = [(await anext(stream)).text]
        for _ in range(20):
            await asyncio.sleep(0)
        return [*found, *[delta.text async for delta in stream]]

    assert asyncio.run(run()) == ["a ", "b c d"]


def test_without_stream_all_comes_as_one() -> None:
    async def run() -> list[Delta]:
        return await deltas(await loaded(), chat("a b c", logprobs=True, top_logprobs=1), stream=False)

    (whole,) = asyncio.run(run())
    assert whole.text == "a b c" and whole.tokens == [0, 1, 2]
    assert whole.logprobs and whole.logprobs[2] == {
        "token": "c",
        "logprob": 0.0,
        "top": [{"token": "c", "logprob": 0.0}],
    }


def test_abort_ends_with_what_was_made() -> None:
    async def run() -> list[Delta]:
        engine = await loaded(delay_ms=5, tokens=1000)
        stream = engine.deltas(Request("r", chat("a b")))
        found = [await anext(stream)]
        assert engine.load_now().running == 1
        await engine.abort("r")
        await engine.abort("unknown")
        found += [delta async for delta in stream]
        assert engine.load_now().running == 0
        return found

    end = asyncio.run(run())[-1].end
    assert end and end.finish == "abort" and 0 < end.completion < 1000


@pytest.mark.parametrize(("fail", "error"), [("refuse", EngineRefused), ("crash", RuntimeError), ("die", EngineDead)])
def test_failures_on_demand(fail: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        answer(chat("a b c"), fail=fail, fail_at=1)


def test_bad_options_are_named() -> None:
    assert plan(Spec("m", "echo", "")).reason is None
    assert "delay" in (plan(Spec("m", "echo", "", echo={"delay": 3})).reason or "")
    with pytest.raises(LoadError):
        answer(chat("a"), fail="load")
