"""Chunk handlers through a real host: fed one after another, flushed, stopped, begun anew."""

from typing import Any

import pytest
from ingle.wire.hook_schema import HookReply
from ingled import link
from ingled.testing_link import HostBench

HANDLERS = """
class Base:
    def __init__(self, call):
        self.call, self.kept = call, ""
    @property
    def held(self):
        return len(self.kept)
    def flush(self):
        out, self.kept = self.kept, ""
        return out

class Words(Base):
    '''Gives whole words out, in capitals.'''
    def feed(self, text):
        self.kept += text
        whole, blank, self.kept = self.kept.rpartition(" ")
        return (whole + blank).upper()

class Stars(Base):
    '''Puts a star around what it is given at once.'''
    def feed(self, text):
        return f"*{text}*"

class Stops(Base):
    def feed(self, text):
        before, word, _ = text.partition("stop")
        if word:
            raise Stop("enough", before)
        return text

class StopsAtFlush(Base):
    def feed(self, text):
        self.kept = text[-1]
        return text[:-1]
    def flush(self):
        raise Stop("at the end", "!")

class Signs(Base):
    '''Holds nothing, and adds to the end.'''
    def feed(self, text):
        return text
    def flush(self):
        return " (end)"

class Fails(Base):
    def feed(self, text):
        if "fail" in text:
            raise ValueError("no")
        return text

class Keeps(Base):
    def feed(self, text):
        self.call.state = (self.call.state or b"") + text.encode()
        return text

class Bad(Base):
    def feed(self, text):
        return 7
"""


@pytest.fixture
def streams(bench: HostBench) -> HostBench:
    for name in ("Words", "Stars", "Stops", "StopsAtFlush", "Signs", "Fails", "Keeps", "Bad"):
        bench.write(name.lower(), f"{HANDLERS}\n@hookimpl\ndef ingled_chunk(call):\n    return {name}(call)\n")
    bench.write("lets", "@hookimpl\ndef ingled_chunk():\n    return None\n")
    bench.write("none", "@hookimpl\ndef ingled_chunk():\n    return object()\n")
    bench.write("raises", "@hookimpl\ndef ingled_chunk():\n    raise OSError('no')\n")
    bench.start()
    return bench


def feed(bench: HostBench, hooks: list[str], text: str, seq: int, **more: Any) -> HookReply:
    return bench.ask("chunk", hooks, {"text": text}, seq=seq, **more)


def told(reply: HookReply) -> list[tuple[str, int]]:
    return [(result.verdict, result.held) for result in reply.results]


def test_what_is_held_comes_with_a_flush_and_with_the_last_call(streams: HostBench) -> None:
    hooks = ["words"]
    reply = feed(streams, hooks, "one tw", 0)
    assert (reply.value, told(reply)) == ({"text": "ONE "}, [("changed", 2)])
    reply = feed(streams, hooks, "o", 1)
    assert (reply.value, told(reply)) == ({"text": ""}, [("changed", 3)])
    reply = feed(streams, hooks, "", 2, flush=True)
    assert (reply.value, told(reply)) == ({"text": "two"}, [("changed", 0)])
    reply = feed(streams, hooks, " and three", 3, last=True)
    assert (reply.value, told(reply)) == ({"text": " AND three"}, [("changed", 0)])
    # It is forgotten then: whoever goes on has missed its beginning.
    assert "not seen the beginning" in feed(streams, hooks, "x", 4).results[0].reason


def test_a_handler_is_fed_with_what_the_one_before_it_gives_out(streams: HostBench) -> None:
    hooks = ["words", "lets", "stars"]
    reply = feed(streams, hooks, "one tw", 0)
    assert reply.value == {"text": "*ONE *"}
    assert told(reply) == [("changed", 2), ("unchanged", 0), ("changed", 0)]
    reply = feed(streams, hooks, "o", 1)  # nothing arrives at the third, and it is not asked
    assert (reply.value, told(reply)[2]) == ({"text": ""}, ("unchanged", 0))
    assert feed(streams, hooks, "", 2, flush=True).value == {"text": "*two*"}
    assert feed(streams, hooks, "z", 3, last=True).value == {"text": "*z*"}


def test_one_that_holds_nothing_is_asked_for_the_rest_at_the_end_only(streams: HostBench) -> None:
    hooks = ["words", "signs"]
    assert feed(streams, hooks, "one", 0).value == {"text": ""}
    assert feed(streams, hooks, "", 1, flush=True).value == {"text": "one"}
    assert feed(streams, hooks, " two", 2, last=True).value == {"text": " two (end)"}


def test_the_order_of_the_call_counts(streams: HostBench) -> None:
    assert feed(streams, ["stars", "words"], "a b", 0, last=True).value == {"text": "*A b*"}


def test_text_that_nobody_changes_is_not_sent_back(streams: HostBench) -> None:
    reply = feed(streams, ["lets", "stops"], "fine", 0)
    assert (reply.value, told(reply)) == (None, [("unchanged", 0), ("unchanged", 0)])


def test_a_handler_that_stops_ends_it_and_the_others_give_out_the_rest(streams: HostBench) -> None:
    hooks = ["stops", "words", "stars"]
    assert feed(streams, hooks, "one tw", 0).value == {"text": "*ONE *"}
    reply = feed(streams, hooks, "o stop here", 1)
    assert [(one.hook, one.verdict, one.reason) for one in reply.results] == [("stops", "stop", "enough")]
    assert reply.value == {"text": "*TWO *"}
    reply = feed(streams, ["stars", "stops"], "a stop b", 0, id="other")
    assert (told(reply), reply.value) == ([("changed", 0), ("stop", 0)], {"text": "*a "})


def test_a_handler_may_stop_while_it_is_flushed(streams: HostBench) -> None:
    reply = feed(streams, ["stopsatflush", "words"], "ab c", 0, last=True)
    assert (reply.value, reply.results[-1].reason) == ({"text": "AB !"}, "at the end")


def test_when_one_behind_a_stop_fails_that_is_told(streams: HostBench) -> None:
    hooks = ["stops", "fails"]
    feed(streams, hooks, "one ", 0)
    reply = feed(streams, hooks, "fail stop", 1)
    assert [(one.hook, one.verdict) for one in reply.results] == [("stops", "unchanged"), ("fails", "error")]
    # Without it, the stream is begun anew, and stops then.
    reply = feed(streams, ["stops"], "one fail stop", 0)
    assert (reply.results[0].verdict, reply.value) == ("stop", {"text": "one fail "})


def test_number_0_begins_anew(streams: HostBench) -> None:
    hooks = ["words"]
    feed(streams, hooks, "one tw", 0)
    assert feed(streams, hooks, "one two", 0).value == {"text": "ONE "}
    assert feed(streams, hooks, "", 1, last=True).value == {"text": "two"}


@pytest.mark.parametrize("seq", [0, 1])
def test_a_handler_that_fails_is_left_out_and_the_next_gets_what_it_got(streams: HostBench, seq: int) -> None:
    hooks = ["fails", "stars"]
    if seq:
        feed(streams, hooks, "one ", 0)
    reply = feed(streams, hooks, "fail", seq)
    assert (told(reply), reply.value) == ([("error", 0), ("changed", 0)], {"text": "*fail*"})
    assert reply.results[0].reason.startswith("ValueError: no (")
    assert "failed earlier" in feed(streams, hooks, "x", seq + 1).results[0].reason


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("bad", "TypeError: it gave out a int, not text"),
        ("none", "TypeError: ingled_chunk returned a object, which has no feed()"),
        ("raises", "OSError: no ("),
        ("nobody", "LookupError: this host runs no plugin 'nobody' with a chunk handler"),
    ],
)
def test_what_is_no_handler_has_failed(streams: HostBench, hook: str, reason: str) -> None:
    assert feed(streams, [hook, "lets"], "x", 0).results[0].reason.startswith(reason)


def test_a_handler_may_keep_something(streams: HostBench) -> None:
    assert feed(streams, ["keeps"], "a", 0, states={"keeps": b"from the prompt:"}).results[0].state == (
        b"from the prompt:a"
    )
    assert feed(streams, ["keeps"], "b", 1).results[0].state == b"from the prompt:ab"
    assert feed(streams, ["keeps"], "", 2, flush=True).results[0].state is None


def test_a_stream_that_is_over_is_forgotten(streams: HostBench) -> None:
    feed(streams, ["words"], "one", 0)
    feed(streams, ["words"], "one", 0, id="other")
    streams.broker.send(streams.peer, link.HookCalls(ended=["r", "unknown"]))
    assert feed(streams, ["words"], "x", 1).results[0].verdict == "error"
    assert feed(streams, ["words"], " ", 1, id="other").value == {"text": "ONE "}


def test_calls_of_one_stream_run_in_their_order(bench: HostBench) -> None:
    bench.write(
        "slow",
        """
        import time
        class Slow:
            held = 0
            def feed(self, text):
                time.sleep(0.01 * (5 - int(text)))
                return text * 2
            def flush(self):
                return ""
        @hookimpl
        def ingled_chunk():
            return Slow()
        """,
    )
    bench.start()
    numbers = [bench.call("chunk", ["slow"], {"text": str(seq)}, seq=seq) for seq in range(5)]
    assert [bench.reply(number).value for number in numbers] == [{"text": str(seq) * 2} for seq in range(5)]
    answered = [
        reply.call
        for _, message in bench.broker.seen
        if isinstance(message, link.HookReplies)
        for reply in message.replies
    ]
    assert answered == numbers


def test_a_stream_that_hangs_is_begun_anew_beside_it(bench: HostBench) -> None:
    bench.write(
        "hangs",
        """
        import time
        class Hangs:
            held = 0
            def feed(self, text):
                while text == "hang":
                    pass
                return text + "!"
            def flush(self):
                return ""
        @hookimpl
        def ingled_chunk():
            return Hangs()
        """,
    )
    bench.start()
    bench.call("chunk", ["hangs"], {"text": "hang"}, seq=0)
    assert feed(bench, ["hangs"], "on", 0).value == {"text": "on!"}
