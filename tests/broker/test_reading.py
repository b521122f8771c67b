"""Bad input gets an error that names field, value and rule; what cannot be read gets nothing."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.wire.limits import FRAME_BYTES, SCHEMA_BYTES
from ingle.wire.schema import Bye, ChatBody, Failed, Hello, Request
from ingled.broker.model_verbs import LoadArgs
from ingled.broker.reading import Nothing, read, read_args, read_body
from msgspec import UNSET

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def refusal(message: dict[str, Any]) -> Failed:
    found = read(pack(message))
    assert isinstance(found, Failed)
    return found


def body_refusal(op: str = "chat", **fields: Any) -> Failed:
    body = (CHAT if op == "chat" else {}) | fields
    request = read(pack({"t": "request", "ref": 7, "op": op, "body": body}))
    assert isinstance(request, Request)
    found = read_body(request)
    assert isinstance(found, Failed), found
    assert found.ref == 7
    return found


def test_valid_messages_are_read() -> None:
    assert read(pack({"t": "bye"})) == Bye()
    hello = read(pack({"t": "hello", "protocol": [1, 1], "client": {"name": "x"}}))
    assert isinstance(hello, Hello)
    request = read(pack({"t": "request", "ref": 1, "op": "chat", "body": CHAT}))
    assert isinstance(request, Request)
    assert isinstance(read_body(request), ChatBody)


@pytest.mark.parametrize(
    ("message", "code", "at", "words"),
    [
        ({"t": "nonsense", "ref": 7}, "bad_message", "t", "t is 'nonsense': expected one of hello, request"),
        ({"t": "cancel", "ref": 7, "id": "a", "x": 1}, "unknown_field", "x", "x: there is no such field"),
        ({"t": "cancel", "ref": 7}, "bad_value", "id", "id is missing"),
        ({"t": "cancel", "ref": 7, "id": 5}, "bad_value", "id", "id is 5: expected str, got int"),
        ({"t": "cancel", "ref": -1, "id": "a"}, "bad_value", "ref", "ref is -1: expected int >= 0"),
        ({"t": "credit", "id": "a", "n": 1000}, "bad_value", "n", "n is 1000: expected int <= 256"),
    ],
)
def test_a_bad_message_is_named(message: dict[str, Any], code: str, at: str, words: str) -> None:
    found = refusal(message)
    assert (found.code, found.at) == (code, at)
    assert words in found.message
    assert found.ref == message.get("ref", UNSET)
    assert found.id is UNSET, "only the end of a request has its id"


@pytest.mark.parametrize(
    ("fields", "code", "at", "words"),
    [
        ({"temperature": -1}, "bad_value", "body.temperature", "body.temperature is -1: expected float >= 0"),
        ({"temperature": "hot"}, "bad_value", "body.temperature", "is 'hot': expected float"),
        ({"messages": []}, "bad_value", "body.messages", "is []: expected array of length >= 1"),
        ({"messages": "hi"}, "bad_value", "body.messages", "is 'hi': expected array, got str"),
        (
            {"messages": [{"role": "root", "content": "x"}]},
            "bad_value",
            "body.messages[0].role",
            "body.messages[0].role is 'root': invalid enum value",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "bad_value", "body.messages[0].content", "is 5: expected"),
        ({"n": 2}, "unknown_field", "body.n", "body.n: there is no such field"),
        ({"max_tokens": 0}, "bad_value", "body.max_tokens", "is 0: expected int >= 1"),
        ({"top_p": 2.0}, "bad_value", "body.top_p", "is 2.0: expected float <= 1"),
        ({"response_format": {"type": "json_schema"}}, "bad_value", "body.response_format", "needs json_schema"),
        (
            {"response_format": {"type": "text", "json_schema": {"schema": {}}}},
            "bad_value",
            "body.response_format",
            "takes no json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
            "bad_value",
            "body.response_format",
            "not a map",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"x": "y" * SCHEMA_BYTES}}}},
            "bad_value",
            "body.response_format",
            "the limit is",
        ),
    ],
)
def test_a_bad_body_is_named(fields: dict[str, Any], code: str, at: str, words: str) -> None:
    found = body_refusal(**fields)
    assert (found.code, found.at) == (code, at)
    assert words in found.message


def test_ops_that_are_reserved_or_unknown_are_told_apart() -> None:
    assert (body_refusal("score").code, body_refusal("sing").code) == ("unsupported", "bad_value")
    assert body_refusal("complete").at == "body.prompt"


def test_long_values_are_shortened() -> None:
    found = body_refusal(temperature="x" * 500)
    assert len(found.message) < 200


def test_arguments_of_calls_are_checked() -> None:
    def args(value: object, kind: type) -> Any:
        return read_args(7, msgspec.Raw(pack(value)), kind)

    assert args({"model": "a"}, LoadArgs) == LoadArgs("a")
    assert args({}, Nothing) == Nothing()
    assert (args({}, LoadArgs).at, args({"x": 1}, Nothing).code) == ("args.model", "unknown_field")


def test_what_cannot_be_read_gets_no_answer() -> None:
    for data in (b"", b"GET / HTTP/1.1", b"\xc1", pack([1, 2]), pack({"x": 1}), pack({"t": 5}), b"\x91" * 100_000):
        assert read(data) is None


def test_a_message_over_the_limit_is_refused_by_its_ref() -> None:
    found = refusal({"t": "request", "ref": 7, "op": "chat", "body": bytes(FRAME_BYTES)})
    assert (found.code, found.ref) == ("too_large", 7)


@given(st.binary(max_size=300))
def test_no_bytes_harm_the_reader(data: bytes) -> None:
    read(data)


@given(st.dictionaries(st.sampled_from(["t", "ref", "op", "body", "id", "n", "model"]), st.integers() | st.text()))
def test_no_map_harms_the_reader(fields: dict[str, object]) -> None:
    try:
        data = pack(fields)
    except OverflowError:
        return
    read(data)
