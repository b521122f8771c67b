"""Runs the hooks of one call, each on what the one before it made of the value.

What the `value` of a call holds; both ends keep to this:

    point      value of the call                                        value of the reply, where it was changed
    request    call, request {model, op, stream, options}               request
    prompt     call, messages [{role, content}]                         messages; with verdict `answer`: text
    chunk      text; with `seq` 0 also call                             text
    answer     call, answer {text, finish, model, usage, ...}           text
    observe    call, answer {text, messages, ...}                       -
    model      change {model, state, was, why}                          -

`call` is {account, model, op, stream, client, tags, context}: `specs.Call` is made of it, with `state` from the call's
`states`. After `refuse` there is no value. A hook that fails is answered by `error`, and the next one gets what this
one got. `ingled.hooks.streams` runs the handlers of `chunk`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from ingle.verdicts import Verdict
from ingle.wire.hook_schema import HookCall, HookReply, HookResult
from ingle.wire.limits import FRAME_BYTES, HOOK_STATE_BYTES
from ingle.wire.schema import ChatMessage, EmbedOptions, Sampling
from msgspec import Raw, Struct

from ingled.hooks.blame import at_call, one_line
from ingled.hooks.registry import Plugin
from ingled.hooks.specs import Call

KEYS = {"request": "request", "prompt": "messages", "answer": "answer", "observe": "answer", "model": "change"}
"""Under which a call's value has what a hook of the point gets, by the name of its parameter."""
NOTE_BYTES = 16 << 10
"""Largest note of one hook, as packed."""

At = Callable[[int], None]
"""Is told what runs now: the index of the hook within its call."""

pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class RequestShape(Struct):
    """What a `request` hook must return."""

    model: str | None
    op: str
    stream: bool
    options: Sampling


class EmbedShape(Struct):
    """What it must return where vectors are asked for."""

    model: str | None
    op: str
    stream: bool
    options: EmbedOptions


class PromptTurn(Struct):
    """The prompt of a completion, or a text to embed, as a message."""

    role: str
    content: str


class Taken(NamedTuple):
    """A verdict that fits its point."""

    result: HookResult
    value: bytes | None
    """What it made of the value, packed: that cannot be changed any more, and can be sent."""


def run(plugins: Mapping[str, Plugin], call: HookCall, at: At) -> HookReply:
    """Run a call of any point but `chunk` to its end. What a plugin raises is a result."""
    key = KEYS[call.point]
    given, packed, changed = call.value.get(key), b"", False
    results: list[HookResult] = []
    for index, name in enumerate(call.hooks):
        at(index)
        if index:
            given = _unpack(packed)
        elif len(call.hooks) > 1:
            packed = pack(given)  # what this one does to its copy is not for the next
        about = about_call(call, name)
        began = time.perf_counter_ns()
        try:
            plugin = _plugin(plugins, name)
            verdict = _invoke(plugin, call, about, key, given)
            us = (time.perf_counter_ns() - began) // 1000
            result, value = _taken(call, name, about, verdict, us)
        except BaseException as error:
            results.append(failed(name, error, plugins, began))
            continue
        results.append(result)
        if result.verdict == "answer":
            assert value is not None, "an answer has a text"
            return HookReply(call.call, results, {"text": Raw(value)})
        if result.verdict == "refuse":
            return HookReply(call.call, results)
        if value is not None:
            if call.point == "answer" and index + 1 < len(call.hooks):
                value = pack({**_unpack(packed), "text": _unpack(value)})
            packed, changed = value, True
    return HookReply(call.call, results, _changed(call, key, packed) if changed else None)


def _changed(call: HookCall, key: str, packed: bytes) -> dict[str, Any]:
    if call.point != "answer":
        return {key: Raw(packed)}
    last = _unpack(packed)
    return {"text": last if isinstance(last, str) else last["text"]}


def about_call(call: HookCall, name: str) -> Call:
    """Return what one hook is told of the request; it may keep and change it."""
    said: dict[str, Any] = call.value.get("call") or {}
    about = Call(call.point, call.id, **said, state=call.states.get(name))
    about.tags, about.context = list(about.tags), [dict(item) for item in about.context]
    return about


def new_state(about: Call, before: bytes | None) -> bytes | None:
    """Return what a hook wants to be kept, where that is new. Raises TypeError or ValueError for what cannot be."""
    state: object = about.state
    if state is before or state is None:
        return None
    if not isinstance(state, bytes):
        raise TypeError(f"call.state is a {type(state).__name__}, not bytes")
    if len(state) > HOOK_STATE_BYTES:
        raise ValueError(f"call.state has {len(state)} bytes, and {HOOK_STATE_BYTES} are allowed")
    return state


def failed(name: str, error: BaseException, plugins: Mapping[str, Plugin], began: int) -> HookResult:
    """Return the result of a hook that raised."""
    home = plugins[name].home if name in plugins else ""
    return HookResult(name, "error", at_call(error, home), (time.perf_counter_ns() - began) // 1000)


def _plugin(plugins: Mapping[str, Plugin], name: str) -> Plugin:
    plugin = plugins.get(name)
    if plugin is None:
        raise LookupError(f"this host runs no plugin '{name}'")
    return plugin


def _invoke(plugin: Plugin, call: HookCall, about: Call, key: str, given: Any) -> Verdict | None:
    caller = plugin.callers.get(call.point)
    if caller is None:
        raise LookupError(f"plugin '{plugin.name}' does not take part at '{call.point}'")
    if call.point == "model":
        found = caller(change=given, options=plugin.options)
    else:
        found = caller(**{key: given}, call=about, options=plugin.options)
    if not found:
        return None
    if not isinstance(found[0], Verdict):
        raise TypeError(f"it returned a {type(found[0]).__name__}, and not None or a verdict such as changed(...)")
    return found[0]


# ---------------------------------------------------------------- verdicts, checked


def _taken(call: HookCall, name: str, about: Call, verdict: Verdict | None, us: int) -> Taken:
    """Return what a verdict comes to. Raises TypeError or ValueError where it does not fit its point."""
    state = new_state(about, call.states.get(name))
    if verdict is None:
        return Taken(HookResult(name, us=us, state=state), None)
    note = _note(verdict.note)
    value: bytes | None = None
    match verdict.kind:
        case "changed":
            value = _sized(_value(call, verdict.value))
        case "answer":
            if call.point != "prompt":
                raise ValueError(f"answered(...) is for prompts, not for '{call.point}'")
            value = _sized(_text(verdict.value, "answered(...)"))
        case "refuse" if call.point in ("observe", "model"):
            raise ValueError(f"nothing can be refused at '{call.point}'")
    reason = one_line(str(verdict.reason)) if verdict.reason else ""
    return Taken(HookResult(name, verdict.kind, reason, us, state, note=note), value)


def _value(call: HookCall, value: Any) -> bytes:
    """Return the new value of a point, packed."""
    match call.point:
        case "request":
            before = call.value["request"]
            kind = EmbedShape if before["op"] == "embed" else RequestShape
            shape = _converted(value, kind, "request")
            if (shape.op, shape.stream) != (before["op"], before["stream"]):
                raise ValueError("changed(request): op and stream cannot be changed")
        case "prompt":
            chat = (call.value.get("call") or {}).get("op") not in ("complete", "embed")
            if not _converted(value, list[ChatMessage] if chat else list[PromptTurn], "messages"):
                raise ValueError("changed(messages): there are none")
        case "answer":
            if (call.value.get("call") or {}).get("stream"):
                raise ValueError("changed(text): this answer has been streamed, and cannot be changed any more")
            return _text(value, "changed(...)")
        case _:
            raise ValueError(f"nothing can be changed at '{call.point}'")
    return pack(value)


def _converted(value: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise TypeError(f"changed({what}): {error}") from None


def _text(value: Any, what: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{what} has a {type(value).__name__}, not text")
    return pack(value)


def _sized(packed: bytes) -> bytes:
    if len(packed) > FRAME_BYTES:
        raise ValueError(f"it gave {len(packed)} bytes, and {FRAME_BYTES} are allowed")
    return packed


def _note(note: Any) -> dict[str, Any] | None:
    if not note:
        return None
    if not isinstance(note, dict):
        raise TypeError(f"its note is a {type(note).__name__}, not a map")
    packed = pack(note)
    if len(packed) > NOTE_BYTES:
        raise ValueError(f"its note has {len(packed)} bytes, and {NOTE_BYTES} are allowed")
    return {key: Raw(pack(value)) for key, value in note.items()}
