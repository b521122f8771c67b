"""The library of hooks against a stand-in for the daemon."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from ingle.errors import IngleError, Refused, Unreachable
from ingle.hooks import Call, Hook, Provider, Verdict, changed, hook, note, run
from ingle.wire.codec import pack

HI = {"messages": [{"role": "user", "content": "hi"}]}


@hook("prompt", name="shout", order=300, deadline_ms=500, on_error="skip", tags=["shell"])
def shout(messages: Any, call: Call) -> Verdict:
    return changed([message | {"content": message["content"].upper()} for message in messages], tags=call.tags)


def results(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in result.items() if key != "us"} for result in reply["results"]]


def test_a_hook_is_offered_called_and_withdrawn(daemon: Any) -> None:
    with Provider(shout, socket=daemon.path) as provider:
        assert {key: value for key, value in daemon.offers["shout"].items() if key not in ("ref", "peer", "t")} == {
            "name": "shout", "points": ["prompt"], "order": 300, "deadline_ms": 500, "on_error": "skip",
            "select": {"tags": ["shell"]},
        }  # fmt: skip
        reply = daemon.hook_call("prompt", HI)
        assert reply["value"] == {"messages": [{"role": "user", "content": "HI"}]}
        assert results(reply) == [{"hook": "shout", "verdict": "changed", "note": {"tags": ["shell"]}}]
        provider.withdraw("shout")
        assert daemon.offers == {}
        assert provider.offer(shout) == {"name": "shout", "order": 300, "scope": "account", "points": ["prompt"]}
        provider.offer(shout)
        assert list(daemon.offers) == ["shout"]
    daemon.wait_for("bye")


def test_hooks_come_back_with_the_daemon(daemon: Any) -> None:
    with Provider(shout, socket=daemon.path):
        daemon.restart()
        daemon.wait_for("hook_offer", 2)
        assert results(daemon.hook_call("prompt", HI))[0]["verdict"] == "changed"


def test_a_daemon_that_still_holds_the_old_connection_is_asked_again(daemon: Any) -> None:
    with Provider(shout, socket=daemon.path):
        daemon.down()
        daemon.refused_offers["shout"] = "already_exists"
        daemon.up()
        daemon.wait_for("hook_offer", 3)
        daemon.refused_offers.clear()
        daemon.wait_for("hook_offer", 4)
        assert results(daemon.hook_call("prompt", HI))[0]["verdict"] == "changed"


def test_a_refused_hook_is_told_at_the_beginning(daemon: Any) -> None:
    daemon.refused_offers["shout"] = "not_allowed"
    with pytest.raises(Refused, match="no"):
        run(shout, socket=daemon.path)


def test_a_hook_that_is_refused_later_is_told_and_the_last_ends_the_provider(daemon: Any) -> None:
    told: list[tuple[str, BaseException]] = []
    provider = Provider(shout, socket=daemon.path, on_error=lambda name, error: told.append((name, error)))
    with provider:
        daemon.down()
        daemon.refused_offers["shout"] = "not_allowed"
        daemon.up()
        with pytest.raises(IngleError, match="no"):
            provider.wait()
        assert [name for name, _ in told] == ["shout"]
        with pytest.raises(IngleError):
            provider.offer(shout)


def test_without_a_daemon_there_are_no_hooks(folder: Path) -> None:
    with pytest.raises(Unreachable):
        run(shout, socket=str(folder / "nobody"))
    with pytest.raises(TypeError, match="is not a hook"):
        Provider(len)


def test_what_a_hook_raises_is_a_verdict_and_is_told(daemon: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fails(messages: Any, call: Call) -> None:
        raise RuntimeError("broken")

    with Provider(Hook("weak", {"prompt": fails}), socket=daemon.path):
        assert results(daemon.hook_call("prompt", HI)) == [
            {"hook": "weak", "verdict": "error", "reason": "RuntimeError: broken"}
        ]
    (record,) = caplog.records
    assert record.getMessage() == "hook weak: RuntimeError: broken"
    assert record.exc_info is not None


def test_who_is_told_may_fail_as_well(daemon: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("broken")

    with Provider(Hook("weak", {"prompt": fails, "answer": lambda *_: None}), socket=daemon.path, on_error=fails):
        daemon.hook_call("prompt", HI, wait=False)
        assert results(daemon.hook_call("answer", {"answer": {}})) == [{"hook": "weak"}]
    assert "broken" in caplog.text


def test_what_cannot_be_sent_is_an_error_too(daemon: Any) -> None:
    hooks = Hook("odd", {"prompt": lambda *_: note(what=object())})
    with Provider(hooks, socket=daemon.path, on_error=lambda *_: None):
        (result,) = daemon.hook_call("prompt", HI)["results"]
        assert (result["verdict"], "cannot be packed" in result["reason"]) == ("error", True)


def test_calls_run_one_after_another_or_in_threads(daemon: Any) -> None:
    barrier = threading.Barrier(2, timeout=60)
    meet = Hook("meet", {"prompt": lambda *_: note(index=barrier.wait())})
    with Provider(meet, socket=daemon.path, threads=2):
        daemon.hook_call("observe", {"answer": {}}, wait=False)
        daemon.do(lambda: daemon._send(daemon.offers["meet"]["peer"], {
            "t": "hook_call", "call": 99, "point": "prompt", "hooks": ["meet"], "value": HI}))  # fmt: skip
        reply = daemon.hook_call("prompt", HI)
        daemon.wait_for("hook_reply", call=99)
    assert results(reply)[0]["note"]["index"] in (0, 1)


def test_a_slow_hook_does_not_keep_the_daemon_from_being_heard(daemon: Any) -> None:
    go = threading.Event()
    slow = Hook("slow", {"observe": lambda *_: go.wait(60)})
    with Provider(slow, shout, socket=daemon.path) as provider:
        daemon.hook_call("observe", {"answer": {}}, "slow", wait=False)
        provider.withdraw("shout")
        go.set()


def test_observers_and_model_events_want_no_reply(daemon: Any) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def told(shown: Any, call: Call) -> None:
        seen.append((call.point, shown))
        if len(seen) == 2:
            done.set()

    with Provider(Hook("ears", {"observe": told, "model": told}), socket=daemon.path):
        daemon.hook_call("observe", {"answer": {"text": "x"}}, wait=False)
        daemon.hook_call("model", {"change": {"model": "tiny", "state": "ready"}}, wait=False)
        assert done.wait(60)
    assert seen == [("observe", {"text": "x"}), ("model", {"model": "tiny", "state": "ready"})]
    assert not [message for message in daemon.received if message["t"] == "hook_reply"]


class Counting:
    """A handler that says how often it was asked, and that notices the end."""

    held = 1  # there is always something to say
    closed = threading.Event()

    def __init__(self) -> None:
        self._asked = 0

    def feed(self, text: str) -> str:
        self._asked += 1
        return f"{text}{self._asked}"

    def flush(self) -> str:
        return "!"

    def close(self) -> None:
        Counting.closed.set()


def test_a_stream_is_begun_continued_and_ended(daemon: Any) -> None:
    with Provider(Hook("count", {"chunk": lambda *_: Counting()}), socket=daemon.path):

        def chunk(text: str, seq: int, **fields: Any) -> str:
            reply = daemon.hook_call("chunk", {"text": text}, seq=seq, **fields)
            return str(reply["value"]["text"])

        assert [chunk("a", 0), chunk("b", 1), chunk("c", 2, flush=True)] == ["a1", "b2", "c3!"]
        assert chunk("a", 0) == "a1"
        assert chunk("z", 1, last=True) == "z2!"
        assert daemon.hook_call("chunk", {"text": "?"}, seq=2)["results"][0]["verdict"] == "error"
        whole = daemon.hook_call("chunk", {"text": "x"}, id="test-1", last=True)
        assert whole["value"] == {"text": "x1!"}
        chunk("a", 0)
        Counting.closed.clear()
        daemon.hook_end("count")
        assert Counting.closed.wait(60)
        chunk("a", 0)
        daemon.restart()
        daemon.wait_for("hook_offer", 2)
        Counting.closed.clear()
        daemon.hook_call("chunk", {"text": "?"}, seq=1, id="r2")
        assert Counting.closed.wait(60)


def test_hooks_between_which_there_are_others_have_streams_of_their_own(daemon: Any) -> None:
    hooks = [Hook(name, {"chunk": lambda *_: Counting()}) for name in ("one", "two")]
    with Provider(*hooks, socket=daemon.path):

        def chunk(name: str, text: str, seq: int, **fields: Any) -> str:
            return str(daemon.hook_call("chunk", {"text": text}, name, seq=seq, **fields)["value"]["text"])

        said = [chunk("one", "a", 0), chunk("two", "a", 0), chunk("one", "b", 1), chunk("two", "b", 1)]
        assert said == ["a1", "a1", "b2", "b2"]
        assert [chunk("one", "", 2, last=True), chunk("two", "c", 2)] == ["!", "c3"]


def test_a_complaint_about_a_reply_is_told_and_ends_nothing(daemon: Any) -> None:
    told = threading.Event()
    with Provider(shout, socket=daemon.path, on_error=lambda *_: told.set()):
        daemon.hook_call("prompt", HI)
        daemon.raw(pack({"t": "failed", "code": "bad_value", "message": "m", "hint": "", "fault": "client"}))
        assert told.wait(60)
        daemon.hook_call("prompt", HI)


def test_a_script_runs_until_it_is_interrupted(daemon: Any, ingle: Any, folder: Path) -> None:
    script = folder / "hook.py"
    script.write_text(
        textwrap.dedent("""\
        from ingle.hooks import changed, hook, run

        @hook(point="prompt")
        def greet(messages):
            return changed([{"role": "system", "content": "Say hello."}, *messages])

        run()
        """)
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([sys.executable, str(script)], env=ingle.environment, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    try:
        daemon.wait_for("hook_offer")
        assert len(daemon.hook_call("prompt", HI)["value"]["messages"]) == 2
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (0, b"")
    daemon.wait_for("bye")
