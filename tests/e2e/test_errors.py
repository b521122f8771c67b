"""Bad input gets a coded error that names field, value and rule, and the connection goes on."""

from typing import Any

import pytest
from ingle.wire.limits import FRAME_BYTES
from ingled.testing import DaemonFixture, Wire

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("message", "code", "at"),
    [
        ({"op": "chat", "model": "parot", "body": {"messages": [USER]}}, "no_such_model", "model"),
        ({"op": "chat", "body": {"messages": []}}, "bad_value", "body.messages"),
        (
            {"op": "chat", "body": {"messages": [{"role": "root", "content": "x"}]}},
            "bad_value",
            "body.messages[0].role",
        ),
        ({"op": "chat", "body": {"messages": [USER], "temperature": -1}}, "bad_value", "body.temperature"),
        ({"op": "chat", "body": {"messages": [USER], "tempratur": 1}}, "unknown_field", "body.tempratur"),
        ({"op": "chat", "body": {"messages": [USER], "max_tokens": "5"}}, "bad_value", "body.max_tokens"),
        ({"op": "chat", "body": {"messages": [USER]}, "colour": 1}, "unknown_field", "colour"),
        ({"op": "chat", "body": {"messages": [USER]}, "credit": 9999}, "bad_value", "credit"),
        ({"op": "score", "body": {}}, "unsupported", "op"),
        ({"op": "embed", "body": {"input": ["x"]}}, "unsupported", "op"),
        ({"op": "embed", "body": {"input": []}}, "bad_value", "body.input"),
        ({"op": "embed", "body": {"input": ["x", ""]}}, "bad_value", "body.input[1]"),
        ({"op": "chat", "body": {"x": "y" * FRAME_BYTES}}, "too_large", None),
    ],
)
def test_a_bad_request_is_refused_and_the_next_is_served(
    daemon: DaemonFixture, message: dict[str, Any], code: str, at: str | None
) -> None:
    import msgpack

    with Wire(daemon.socket) as client:
        client.send_bytes(msgpack.packb({"t": "request", "ref": 77, **message}))
        failed = client.receive()
        assert (failed["t"], failed["code"], failed["ref"], failed.get("at")) == ("failed", code, 77, at)
        assert failed["message"]
        assert failed["fault"] == "client"
        assert client.read(client.ask("still here"))[0] == "still here"


def test_the_nearest_model_is_named(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        with pytest.raises(RuntimeError) as caught:
            client.ask(model="parot")
        assert "there are: echo, slow" in str(caught.value)
        assert "did you mean 'parrot'?" in str(caught.value)


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        _, end = client.read(client.ask("w " * 200, model="small"))
        assert end["code"] == "prompt_too_long"
        assert "64" in end["message"]
        assert "201" in end["message"] or "200" in end["message"]
        _, end = client.read(client.ask("w", model="small", body={"max_tokens": 500}))
        assert (end["code"], end["at"]) == ("bad_value", "body.max_tokens")


def test_hello_comes_first_and_its_version_is_checked(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket, hello={"protocol": [2, 3]}) as client:
        assert client.welcome["code"] == "incompatible_protocol"
        client.send({"t": "call", "ref": 3, "verb": "status"})
        failed = client.receive()
        assert (failed["code"], failed["ref"]) == ("bad_message", 3)
        client.send({"t": "hello", "protocol": [1, 1], "client": {"name": "again"}})
        assert client.receive()["t"] == "welcome"


def test_what_cannot_be_read_is_counted_and_dropped(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        before = client.call("status")["dropped"]["unreadable"]
        client.send_bytes(b"GET / HTTP/1.1")
        client.send_bytes(b"\x81\xa1t\xa3bye", b"a second frame")
        client.send_bytes(b"")
        assert client.call("status")["dropped"]["unreadable"] == before + 3


def test_calls_that_are_wrong_are_named(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        for verb, args, code in (
            ("sing", {}, "bad_value"),
            ("pull", {}, "unsupported"),
            ("sleep", {"model": "nope"}, "no_such_model"),
            ("wake", {"model": "nope"}, "no_such_model"),
            ("load", {}, "bad_value"),
            ("load", {"model": "nope"}, "no_such_model"),
            ("show", {"model": "nope"}, "no_such_model"),
            ("status", {"x": 1}, "unknown_field"),
        ):
            with pytest.raises(RuntimeError, match=code):
                client.call(verb, **args)
        for topics, code in ((["weather"], "bad_value"), ([], "bad_value")):
            client.send({"t": "subscribe", "ref": 4, "topics": topics})
            assert client.receive()["code"] == code


def test_a_token_of_another_session_opens_nothing(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket, hello={"token": "not a token"}) as client:
        assert "resumed" not in client.welcome
