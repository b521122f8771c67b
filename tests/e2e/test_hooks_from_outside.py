"""Hooks that programs offer over their own connection, with the daemon itself."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from ingle import Client, Refused
from ingle.hooks import Hook, Provider, Stop, answered, changed, hook, note, refuse
from ingled.testing import DaemonFixture
from ingled.testing_link import wait_until

PATIENT = 30_000


@pytest.fixture
def client(daemon: DaemonFixture) -> Iterator[Client]:
    with Client(str(daemon.socket), tags=["tests"]) as one:
        yield one


def prompt(name: str, does: Any, **offer: Any) -> Hook:
    return Hook(name, {"prompt": does}, {"deadline_ms": PATIENT} | offer)


def upper(messages: Any, call: Any) -> Any:
    return changed([message | {"content": message["content"].upper()} for message in messages], tags=call.tags)


def test_a_filter_changes_refuses_or_answers(daemon: DaemonFixture, client: Client) -> None:
    def decides(messages: Any, call: Any) -> Any:
        word = messages[-1]["content"]
        return {"NO": refuse("never"), "PING": answered("pong")}.get(word)

    with Provider(prompt("loud", upper, order=10), prompt("decides", decides, order=20), socket=str(daemon.socket)):
        answer = client.chat("hi there")
        assert answer.text == "HI THERE"
        assert [(one["name"], one["verdict"]) for one in answer.hooks] == [
            ("loud", "changed"),
            ("decides", "unchanged"),
        ]
        assert answer.hooks[0]["note"] == {"tags": ["tests"]}
        assert client.chat("ping").text == "pong"
        with pytest.raises(Refused, match="hook 'decides' refused the request: never") as refused:
            client.chat("no")
        assert refused.value.failed is not None
        assert [one["name"] for one in refused.value.failed["hooks"]] == ["loud", "decides"]
    assert client.chat("hi there").text == "hi there"


@hook("prompt", name="mask", order=50, deadline_ms=PATIENT)
def hide(messages: Any, call: Any) -> Any:
    call.state = b"Bob"
    return changed([message | {"content": message["content"].replace("Bob", "<1>")} for message in messages])


@hook("chunk", name="mask", hold_chars=2)
class Show:
    def __init__(self, call: Any) -> None:
        self.name, self.rest = call.state.decode(), ""

    @property
    def held(self) -> int:
        return len(self.rest)

    def feed(self, text: str) -> str:
        text = (self.rest + text).replace("<1>", self.name)
        keep = next((n for n in (2, 1) if text.endswith("<1>"[:n])), 0)
        self.rest = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        rest, self.rest = self.rest, ""
        return rest


def test_what_a_prompt_hides_the_answer_shows_again(daemon: DaemonFixture, client: Client) -> None:
    seen: list[Any] = []
    watch = prompt("watch", lambda messages, call: seen.append(messages[-1]["content"]), order=60)
    with Provider(hide, watch, socket=str(daemon.socket)):
        assert client.chat("Bob and <1 <").text == "Bob and <1 <"
        with client.chat("Bob and <1 <", stream=True) as streamed:
            assert streamed.read().text == "Bob and <1 <"
    assert seen == ["<1> and <1 <"] * 2


def test_a_stop_ends_the_answer(daemon: DaemonFixture, client: Client) -> None:
    @hook("chunk", name="brake", deadline_ms=PATIENT)
    def brake(text: str) -> str:
        if "three" in text:
            raise Stop("enough", "[cut]")
        return text

    with Provider(brake, socket=str(daemon.socket)):
        answer = client.chat("one two three four five")
    assert (answer.text.endswith("[cut]"), answer.finish) == (True, "content_filter")
    assert answer.hooks[-1]["why"] == "enough"


def test_a_hook_that_is_late_is_skipped_and_told(daemon: DaemonFixture, client: Client) -> None:
    go = Event()
    slow = prompt("slow", lambda *_: go.wait(20), deadline_ms=100)
    with Provider(slow, socket=str(daemon.socket)):
        answer = client.chat("hi")
        go.set()
    assert (answer.text, answer.hooks[0]["verdict"]) == ("hi", "skipped")


def test_the_whole_answer_is_annotated_or_changed(daemon: DaemonFixture, client: Client) -> None:
    count = Hook("count", {"answer": lambda answer, call: note(n=len(answer["text"]))}, {"deadline_ms": PATIENT})
    exclaim = {"answer": lambda answer, call: None if call.stream else changed(answer["text"] + "!")}
    more = Hook("more", exclaim, {"deadline_ms": PATIENT})
    with Provider(count, more, socket=str(daemon.socket)):
        answer = client.chat("hello")
        assert answer.hooks[0]["note"] == {"n": 5}
        assert answer.text == "hello!"


def test_what_an_observer_fails_at_is_counted_and_it_trips(daemon: DaemonFixture, client: Client) -> None:
    def fails(answer: Any, call: Any) -> None:
        raise RuntimeError("cannot keep it")

    def listed() -> dict[str, Any]:
        return {one["name"]: one for one in client.call("hooks")["hooks"]}

    seen: list[str] = []
    keeps = Hook("keeps", {"observe": lambda answer, call: seen.append(answer["text"])}, {"deadline_ms": PATIENT})
    ears = Hook("ears", {"observe": fails}, {"deadline_ms": PATIENT})
    with Provider(ears, keeps, socket=str(daemon.socket)):
        for number in range(5):
            assert client.chat(f"number {number}").hooks[0]["verdict"] == "told"
        wait_until(lambda: listed()["ears"]["state"] == "tripped")
        assert (listed()["ears"]["calls"], listed()["ears"]["failures"]) == (5, 5)
        assert "cannot keep it" in listed()["ears"]["last_failure"]
        assert client.chat("number 5").hooks[0]["verdict"] == "skipped"
        wait_until(lambda: listed()["keeps"]["calls"] == 6)
        assert listed()["keeps"]["failures"] == 0 and listed()["keeps"]["p50_us"] is not None
    assert seen == [f"number {number}" for number in range(6)]


def test_a_program_on_the_command_line(daemon: DaemonFixture, client: Client) -> None:
    script = "if grep -q secret; then echo no secrets; exit 10; fi"
    argv = ["hook", "run", "--point", "prompt", "--text", "--name", "guard", "--deadline-ms", str(PATIENT)]
    process = start(daemon, *argv, "--", "sh", "-c", script)
    try:
        assert process.stderr is not None
        process.stderr.readline()  # it says that the hook is offered
        with pytest.raises(Refused, match="no secrets"):
            client.chat("a secret")
        assert client.chat("fine").text == "fine"
        listed = daemon.json("hooks")["hooks"]
        assert [(one["name"], one["state"], one["calls"]) for one in listed] == [("guard", "active", 2)]
        tried = daemon.cli("hooks", "test", "guard", input='{"prompt": "secret"}')
        assert "guard at prompt: refuse" in tried.stdout
        traced = daemon.cli("hooks", "trace", "--", "ask", "fine")
        assert "guard at prompt: unchanged" in traced.stdout
    finally:
        process.kill()
        process.communicate()
    until = monotonic() + 60
    while client.call("hooks")["hooks"]:
        assert monotonic() < until


def start(daemon: DaemonFixture, *argv: str) -> "subprocess.Popen[bytes]":
    environ = daemon.environ | {"INGLE_SOCKET": str(daemon.socket), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "ingle", *argv]
    return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path("/"))
