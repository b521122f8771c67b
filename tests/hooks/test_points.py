"""Every point through a real host: what a hook gets, what becomes of what it returns, and what when it fails."""

from typing import Any

import pytest
from ingle.wire.hook_schema import HookReply
from ingled import link
from ingled.testing_link import HostBench, wait_until


def verdicts(reply: HookReply) -> list[str]:
    return [result.verdict for result in reply.results]


def content(reply: HookReply) -> Any:
    return reply.value and reply.value["messages"][0]["content"]


ADDS = """
@hookimpl
def ingled_prompt(messages):
    messages[-1]["content"] += "-{name}"
    return changed(messages, by="{name}")
"""
SPOILS = """
@hookimpl
def ingled_prompt(messages, call):
    messages[-1]["content"] = "spoilt"
    messages.append("spoilt")
    call.tags.append("spoilt")
    call.context[0]["text"] = "spoilt"
    {end}
"""


def test_filters_are_a_fold_in_the_order_of_the_call(bench: HostBench) -> None:
    for name in "abc":
        bench.write(name, ADDS.format(name=name))
    bench.start()
    reply = bench.prompt("c", "a", "b")
    assert content(reply) == "hello-c-a-b"
    assert [(one.hook, one.verdict, one.note) for one in reply.results] == [
        (name, "changed", {"by": name}) for name in "cab"
    ]
    assert all(one.us >= 0 for one in reply.results)


def test_what_a_failing_or_silent_hook_did_to_its_copy_is_dropped(bench: HostBench) -> None:
    bench.write("fails", SPOILS.format(end="raise ValueError('no')"))
    bench.write("silent", SPOILS.format(end="return None"))
    bench.write("notes", SPOILS.format(end="return note(seen=1)"))
    bench.write("good", ADDS.format(name="good"))
    bench.write("tells", "@hookimpl\ndef ingled_prompt(call):\n    return note(tags=call.tags, context=call.context)")
    bench.start()
    reply = bench.prompt("fails", "silent", "good", "notes", "tells")
    assert verdicts(reply) == ["error", "unchanged", "changed", "unchanged", "unchanged"]
    assert content(reply) == "hello-good"
    context = [{"kind": "file", "name": "a", "text": "b"}]
    assert reply.results[-1].note == {"tags": ["shell"], "context": context}
    assert bench.prompt("fails").value is None
    assert bench.prompt("silent").value is None


def test_a_hook_that_refuses_or_answers_ends_the_call(bench: HostBench) -> None:
    bench.write("adds", ADDS.format(name="a"))
    bench.write("refuses", "@hookimpl\ndef ingled_prompt():\n    return refuse('not\\nhere', rule=7)")
    bench.write("answers", "@hookimpl\ndef ingled_prompt():\n    return answered('forty-two', cached=True)")
    bench.start()
    reply = bench.prompt("adds", "refuses", "adds")
    assert (verdicts(reply), reply.value) == (["changed", "refuse"], None)
    assert (reply.results[1].reason, reply.results[1].note) == ("not here", {"rule": 7})
    reply = bench.prompt("adds", "answers", "adds")
    assert (verdicts(reply), reply.value) == (["changed", "answer"], {"text": "forty-two"})


ERRORS = {
    "raise ValueError('bad')": "ValueError: bad (FILE:6)",
    "raise SystemExit(1)": "SystemExit: 1 (FILE:6)",
    "raise KeyboardInterrupt": "KeyboardInterrupt (FILE:6)",
    "import sys; sys.exit()": "SystemExit (FILE:6)",
    "raise Stop('no')": "Stop: no (FILE:6)",
    "import json; json.loads('{')": "JSONDecodeError: Expecting property name",
    "return 5": "TypeError: it returned a int, and not None or a verdict such as changed(...)",
    "yield 5": "TypeError: it returned a generator,",
    "return changed(5)": "TypeError: changed(messages): Expected `array`, got `int`",
    "return changed([])": "ValueError: changed(messages): there are none",
    "return changed([{'role': 'user'}])": "TypeError: changed(messages): Object missing required field `content`",
    "return changed([{'role': 'robot', 'content': ''}])": "TypeError: changed(messages): Invalid enum value 'robot'",
    "return changed([{'role': 'user', 'content': '\\ud800'}])": "UnicodeEncodeError: 'utf-8' codec can't encode",
    "return answered(b'x')": "TypeError: answered(...) has a bytes, not text",
    "return note(x=object())": "TypeError: Encoding objects of type object is unsupported",
    "return note(x='x' * 20000)": "ValueError: its note has 20006 bytes, and 16384 are allowed",
    "return changed([{'role': 'user', 'content': 'x' * (5 << 20)}])": "ValueError: it gave 5242905 bytes",
    "call.state = 'text'": "TypeError: call.state is a str, not bytes",
    "call.state = bytes(300_000)": "ValueError: call.state has 300000 bytes, and 262144 are allowed",
    "def f(): f()\n    f()": "RecursionError: maximum recursion depth exceeded (FILE:6)",
}


def test_whatever_a_hook_does_wrong_is_an_error_of_its_own(bench: HostBench) -> None:
    paths = [
        bench.write(f"x{at}", f"\n\n@hookimpl\ndef ingled_prompt(call):\n    {code}\n")
        for at, code in enumerate(ERRORS)
    ]
    bench.write("good", ADDS.format(name="good"))
    bench.start()
    reply = bench.prompt(*(path.stem for path in paths), "good")
    assert verdicts(reply) == ["error"] * len(paths) + ["changed"]
    for path, expected, result in zip(paths, ERRORS.values(), reply.results, strict=False):
        assert result.reason.startswith(expected.replace("FILE", str(path))), result
    assert content(reply) == "hello-good"
    assert bench.process.poll() is None


def test_a_hook_that_is_not_there_has_failed(bench: HostBench) -> None:
    bench.write("a", ADDS.format(name="a"))
    bench.start()
    reply = bench.prompt("b", "a")
    assert (reply.results[0].verdict, content(reply)) == ("error", "hello-a")
    assert "runs no plugin 'b'" in reply.results[0].reason
    reply = bench.ask("answer", ["a"], {"answer": {"text": ""}})
    assert "does not take part at 'answer'" in reply.results[0].reason


def test_a_request_hook_sees_and_changes_the_request(bench: HostBench) -> None:
    bench.write(
        "x",
        """
        @hookimpl
        def ingled_request(request, call, options):
            case = request["options"].get("seed")
            if case == 1:
                return changed(request | {"model": "other", "options": {"temperature": 0.5}})
            if case == 2:
                return changed(request | {"options": {"temperature": "hot"}})
            if case == 3:
                return changed(request | {"stream": not request["stream"]})
            if case == 4:
                return answered("x")
            return refuse(f"{call.account} {call.op} {call.client}")
        """,
    )
    bench.start()

    def ask(seed: int) -> HookReply:
        request = {"model": None, "op": "chat", "stream": True, "options": {"seed": seed}}
        return bench.ask("request", ["x"], {"request": request})

    assert ask(1).value == {
        "request": {"model": "other", "op": "chat", "stream": True, "options": {"temperature": 0.5}}
    }
    assert ask(2).results[0].reason.startswith("TypeError: changed(request): Expected `float | null`, got `str`")
    assert ask(3).results[0].reason == "ValueError: changed(request): op and stream cannot be changed"
    assert ask(4).results[0].reason == "ValueError: answered(...) is for prompts, not for 'request'"
    assert ask(5).results[0].reason == "uid:1000 chat test"


def test_the_prompt_of_a_completion_is_a_message_of_its_own_kind(bench: HostBench) -> None:
    bench.write("a", ADDS.format(name="a"))
    bench.start()
    value = {"messages": [{"role": "prompt", "content": "once"}]}
    reply = bench.ask("prompt", ["a"], value, about={"op": "complete"})
    assert reply.value == {"messages": [{"role": "prompt", "content": "once-a"}]}
    assert bench.ask("prompt", ["a"], value).results[0].verdict == "error"


def test_an_answer_hook_annotates_and_changes_what_was_not_streamed(bench: HostBench) -> None:
    bench.write("words", "@hookimpl\ndef ingled_answer(answer):\n    return note(words=len(answer['text'].split()))")
    bench.write("cuts", "@hookimpl\ndef ingled_answer(answer):\n    return changed(answer['text'][:3])")
    bench.write("spoils", "@hookimpl\ndef ingled_answer(answer):\n    answer.clear()")
    bench.start()
    value = {"answer": {"text": "one two", "finish": "stop", "usage": {"prompt": 1}}}
    reply = bench.ask("answer", ["spoils", "cuts", "spoils", "words"], value, about={"stream": False})
    assert verdicts(reply) == ["unchanged", "changed", "unchanged", "unchanged"]
    assert (reply.value, reply.results[3].note) == ({"text": "one"}, {"words": 1})
    assert bench.ask("answer", ["cuts"], value, about={"stream": False}).value == {"text": "one"}
    reply = bench.ask("answer", ["cuts", "words"], value)
    assert (reply.value, reply.results[1].note) == (None, {"words": 2})
    assert "this answer has been streamed" in reply.results[0].reason


def test_observers_are_told_and_say_whether_they_failed(bench: HostBench) -> None:
    bench.write(
        "sees",
        """
        seen = []
        @hookimpl
        def ingled_observe(answer, call):
            seen.append([call.account, answer["text"]])
        @hookimpl
        def ingled_model(change, options):
            seen.append([change["model"], change["state"]])
        @hookimpl
        def ingled_prompt():
            return note(seen=seen)
        """,
    )
    bench.write("fails", "@hookimpl\ndef ingled_observe(answer):\n    1 / 0")
    bench.start()
    told = bench.ask("observe", ["fails", "sees"], {"answer": {"text": "hi"}})
    assert [result.verdict for result in told.results] == ["error", "unchanged"]
    assert "ZeroDivisionError" in told.results[0].reason
    bench.ask("model", ["sees"], {"change": {"model": "m", "state": "ready", "was": "loading", "why": ""}})

    def seen() -> list[list[str]]:
        told = bench.prompt("sees").results[0].note
        return sorted(told["seen"] if told else [])

    wait_until(lambda: len(seen()) == 2)
    assert seen() == [["m", "ready"], ["uid:1000", "hi"]]


def test_a_hook_gets_back_what_it_kept(bench: HostBench) -> None:
    bench.write(
        "keeps",
        """
        @hookimpl
        def ingled_prompt(call):
            if call.state is None:
                call.state = b"kept"
            return note(had=call.state.decode())
        """,
    )
    bench.start()
    assert bench.prompt("keeps").results[0].state == b"kept"
    result = bench.prompt("keeps", states={"keeps": b"old"}).results[0]
    assert (result.state, result.note) == (None, {"had": "old"})


@pytest.mark.parametrize("options", [{"word": "psst"}, {}])
def test_a_hook_gets_its_options_as_it_declared_them(bench: HostBench, options: dict[str, str]) -> None:
    bench.write(
        "x",
        """
        import msgspec
        class Options(msgspec.Struct):
            word: str = "none"
        @hookimpl
        def ingled_prompt(options):
            return note(word=options.word)
        """,
    )
    bench.start(plugins={"x": link.Choice(options=options)})
    assert bench.prompt("x").results[0].note == {"word": options.get("word", "none")}
