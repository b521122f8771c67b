"""From the bytes of a client to a valid message, or to the error that names field, value and rule. Pure."""

from contextlib import suppress
from typing import Any, get_args

import msgspec
from ingle.wire.codec import Unreadable, check_depth
from ingle.wire.limits import FRAME_BYTES, SCHEMA_BYTES
from ingle.wire.schema import BODIES, Body, Code, EmbedBody, Failed, FromClient, Request
from msgspec import UNSET, Raw, Struct, UnsetType

RESERVED_OPS = frozenset({"score", "tokens", "render"})

VALUE_BYTES = 64 << 10
"""Messages larger than this are not searched for the wrong value."""

NAME = 64
WHERE = 200
"""Most of a wrong name or path that is told back."""

_EXPECTED = (ValueError, RecursionError)
_types = tuple(str(kind.__struct_config__.tag) for kind in get_args(FromClient))


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """A verb without arguments."""


class _Head(Struct):
    t: str
    ref: Raw = Raw(b"\xc0")


_head = msgspec.msgpack.Decoder(_Head)
_message = msgspec.msgpack.Decoder(FromClient)
_bodies: dict[str, msgspec.msgpack.Decoder[Any]] = {op: msgspec.msgpack.Decoder(body) for op, body in BODIES.items()}


def read(data: bytes | memoryview) -> FromClient | Failed | None:
    """Return the message, or why it is refused; None when it cannot be read at all and gets no answer."""
    message: FromClient
    if len(data) <= FRAME_BYTES:
        with suppress(*_EXPECTED):
            message = _message.decode(data)
            return message
    try:
        head = _head.decode(data)
    except _EXPECTED:
        return None
    if len(data) > FRAME_BYTES:
        return _refuse(head, "too_large", f"the message has {len(data)} bytes: the limit is {FRAME_BYTES}", "send less")
    if head.t not in _types:
        allowed = ", ".join(_types)
        return _refuse(head, "bad_message", f"t is '{head.t[:64]}': expected one of {allowed}", "", at="t")
    try:
        message = _message.decode(data)
        return message
    except _EXPECTED as error:
        return _explain(head, error, data, "")


def read_body(request: Request) -> Body | Failed:
    """Return the body of a request, or why it is refused."""
    head = _Head("request", Raw(msgspec.msgpack.encode(request.ref)))
    decoder = _bodies.get(request.op)
    if decoder is None:
        code: Code = "unsupported" if request.op in RESERVED_OPS else "bad_value"
        message = f"op is '{request.op[:NAME]}': this daemon has {', '.join(_bodies)}"
        return _refuse(head, code, message, "", at="op")
    try:
        body: Body = decoder.decode(request.body)
    except _EXPECTED as error:
        return _explain(head, error, request.body, "body")
    wrong = _wrong_format(body)
    if wrong is not None:
        at = "body.response_format"
        return _refuse(head, "bad_value", f"{at}: {wrong}", "see docs/protocol.md, Bodies", at=at)
    return body


def read_args(ref: int, args: Raw, kind: type[Struct]) -> Any:
    """Return the arguments of a call as a `kind`, or why they are refused."""
    head = _Head("call", Raw(msgspec.msgpack.encode(ref)))
    try:
        return msgspec.msgpack.decode(args, type=kind)
    except _EXPECTED as error:
        return _explain(head, error, args, "args")


def _wrong_format(body: Body) -> str | None:
    form = None if isinstance(body, EmbedBody) else body.response_format
    if form is None:
        return None
    if (form.type == "json_schema") != (form.json_schema is not None):
        return f"type '{form.type}' {'needs' if form.type == 'json_schema' else 'takes no'} json_schema"
    if form.json_schema is None:
        return None
    schema = form.json_schema.schema
    if len(schema) > SCHEMA_BYTES:
        return f"the schema has {len(schema)} bytes: the limit is {SCHEMA_BYTES}"
    try:
        value = msgspec.msgpack.decode(schema)
        check_depth(value)
    except (*_EXPECTED, Unreadable) as error:
        return f"the schema cannot be read: {error}"
    return None if isinstance(value, dict) else "the schema is not a map"


def _refuse(head: _Head, code: Code, message: str, hint: str, at: str | UnsetType = UNSET) -> Failed:
    ref: int | UnsetType = UNSET
    with suppress(*_EXPECTED):
        ref = msgspec.msgpack.decode(head.ref, type=int)
    return Failed(code, message, hint, "client", ref=ref, at=at)


def _explain(head: _Head, error: Exception, data: bytes | memoryview, prefix: str) -> Failed:
    """Turn a validation error into one that names path, value and rule."""
    text, found, path = str(error).rpartition(" - at `$")
    if not found:
        text, path = path, ""
    if not isinstance(error, msgspec.ValidationError):
        return _refuse(head, "bad_message", f"the message cannot be read: {text or type(error).__name__}", "")
    keys = path.rstrip("`").lstrip(".") if found else ""
    at = ".".join(part for part in (prefix, keys) if part)
    if text.startswith("Object contains unknown field"):
        name = text.partition("`")[2].rpartition("`")[0][:NAME]
        where = f"{at}.{name}" if at else name
        return _refuse(head, "unknown_field", f"{where}: there is no such field", "see docs/protocol.md", at=where)
    if text.startswith("Object missing required field"):
        name = text.split("`")[1]
        where = f"{at}.{name}" if at else name
        return _refuse(head, "bad_value", f"{where} is missing: it is required", "see docs/protocol.md", at=where)
    value = _value(data, keys)
    at = at[:WHERE]
    shown = f" is {value}" if value is not None else ""
    rule = (text[:1].lower() + text[1:].replace("`", ""))[:WHERE]
    return _refuse(head, "bad_value", f"{at or 'the message'}{shown}: {rule}", "see docs/protocol.md", at=at or UNSET)


def _value(data: bytes | memoryview, keys: str) -> str | None:
    """Return the value at a path such as `messages[0].role`, shortened for people."""
    if len(data) > VALUE_BYTES or not keys:
        return None
    try:
        value = msgspec.msgpack.decode(data)
    except _EXPECTED:
        return None
    for key in keys.split("."):
        name, *indexes = key.replace("]", "").split("[")
        value = value.get(name) if isinstance(value, dict) else None
        for index in indexes:
            if not (isinstance(value, list) and index.isascii() and index.isdecimal() and int(index) < len(value)):
                return None
            value = value[int(index)]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
