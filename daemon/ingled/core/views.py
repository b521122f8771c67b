"""Requests and answers as hooks see them, and the bodies that they make of them. Pure."""

from typing import Any

import msgspec
from ingle.wire.schema import BODIES, Done, Failed
from msgspec import UNSET, Raw

from ingled.core.chain import Value
from ingled.core.requests import Record

_decode = msgspec.msgpack.decode
_encode = msgspec.msgpack.encode

CONTENT = ("messages", "prompt", "input")
"""What of a body is not an option."""


def messages(record: Record) -> list[Value]:
    """Return the messages of a request.

    The prompt of a completion is one with the role `prompt`; each text to embed is one with the role `input`.
    """
    body = _decode(record.body)
    if record.op == "embed":
        return [{"role": "input", "content": text} for text in body["input"]]
    if record.op == "complete":
        return [{"role": "prompt", "content": body["prompt"]}]
    return [{**message, "content": _plain(message["content"])} for message in body["messages"]]


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def with_messages(record: Record, changed: Any) -> Raw:
    """Return the body with other messages. Raises ValueError, KeyError or TypeError for what are none."""
    body = _decode(record.body)
    if record.op == "complete":
        body["prompt"] = "\n\n".join(message["content"] for message in changed)
    elif record.op == "embed":
        if len(changed) != len(body["input"]):
            raise ValueError(f"it made {len(changed)} texts of {len(body['input'])}, and each is to have its vector")
        body["input"] = [message["content"] for message in changed]
    else:
        body["messages"] = changed
    return _checked(record.op, body)


def options(record: Record) -> Value:
    """Return the options of a request: of sampling, or of embeddings."""
    return {key: value for key, value in _decode(record.body).items() if key not in CONTENT}


def with_options(record: Record, request: Any) -> tuple[str | None, Raw]:
    """Return model and body as a `request` hook wants them. Raises ValueError, KeyError or TypeError."""
    model = request["model"]
    if not isinstance(model, str | None):
        raise TypeError("model is no name")
    body = _decode(record.body)
    kept = {key: body[key] for key in CONTENT if key in body}
    return model, _checked(record.op, {**request["options"], **kept})


def _checked(op: str, body: Value) -> Raw:
    packed = _encode(body)
    _decode(packed, type=BODIES[op])
    return Raw(packed)


def request_value(record: Record, wanted: str | None) -> Value:
    """Return what `request` hooks see."""
    return {"request": {"model": wanted, "op": record.op, "stream": record.stream, "options": options(record)}}


def answer_value(record: Record, done: Done, text: str, *, whole: bool) -> Value:
    """Return what `answer` hooks see, and, with `whole`, observers."""
    model = {name: value for name, value in msgspec.structs.asdict(done.model).items() if value is not None}
    usage = msgspec.structs.asdict(done.usage)
    answer: Value = {"text": text, "finish": done.finish, "model": model, "usage": usage, "options": options(record)}
    answer["hooks"] = _ran(record)
    if whole:
        answer["messages"] = messages(record)
    return {"answer": answer}


def failure_value(record: Record, end: Failed) -> Value:
    """Return what observers see of a request that failed; its text is what there is of it."""
    usage = {} if end.usage is UNSET else msgspec.structs.asdict(end.usage)
    answer: Value = {"text": "", "finish": "failed", "model": {"name": record.model}, "usage": usage}
    answer |= {"options": options(record), "hooks": _ran(record), "messages": messages(record)}
    return {"answer": answer | {"failed": {"code": end.code, "message": end.message, "fault": end.fault}}}


def _ran(record: Record) -> list[Value]:
    return [{key: one[key] for key in one if key not in ("before", "after")} for one in record.ran]


def about(record: Record) -> Value:
    """Return what every hook is told of a request."""
    return {
        "account": record.account,
        "model": record.model,
        "op": record.op,
        "stream": record.open,
        "client": record.client,
        "tags": list(record.tags),
        "context": record.context,
    }
