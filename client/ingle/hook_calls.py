"""From a `hook_call` to its results: runs the hooks of one call one after another. No socket here, no thread.

Each hook gets its own copy of what it is shown, so that what a failing one half did is dropped.
"""

from collections.abc import Callable, Mapping
from time import monotonic, perf_counter
from typing import Any

from ingle.verdicts import Stop, Verdict
from ingle.wire.codec import Message

REASON = 4096
"""Longest reason, in characters."""

SUBJECTS = {
    "request": "request",
    "prompt": "messages",
    "chunk": "text",
    "answer": "answer",
    "observe": "answer",
    "model": "change",
}
"""What a hook is shown at each point: the key in the call's value, and the name of the hook's parameter."""

ALLOWED = {
    "request": ("unchanged", "changed", "refuse"),
    "prompt": ("unchanged", "changed", "refuse", "answer"),
    "chunk": (),
    "answer": ("unchanged", "changed", "refuse"),
    "observe": ("unchanged",),
    "model": ("unchanged",),
}


class Failure(Exception):
    """A hook has failed, and these words say all about it."""


class Call:
    """Which request this is. `state` is what this hook kept at an earlier point of it; assign bytes to keep others."""

    __slots__ = (
        "account", "client", "context", "deadline", "id", "last", "model", "op", "point", "state", "stream", "tags",
    )  # fmt: skip

    def __init__(self, point: str, id: str = "", **about: Any) -> None:
        self.point = point
        self.id = id
        self.account: str = about.get("account", "")
        self.model: str = about.get("model") or ""
        self.op: str = about.get("op", "")
        self.stream: bool = about.get("stream", True)
        self.client: str = about.get("client", "")
        self.tags: list[str] = about.get("tags", [])
        self.context: list[dict[str, str]] = about.get("context", [])
        """What the client offers beside the messages: maps of `kind`, `name` and `text`."""
        self.state: bytes | None = about.get("state")
        self.deadline: float = about.get("deadline", float("inf"))
        """When the daemon stops waiting, on the clock of `time.monotonic`."""
        self.last = False
        """At `chunk`: no text follows."""

    def as_map(self) -> dict[str, Any]:
        """Return what the daemon says about the request, for programs that read it as JSON."""
        return {key: getattr(self, key) for key in ("account", "model", "op", "stream", "client", "tags", "context")}


Runner = Callable[[Any, Call], Any]
"""What a hook does at a point: gets what the point shows and the call, and returns a verdict or None. At `chunk` it
gets None, and returns a handler.
"""


class Stream:
    """The handlers of one answer's text, by hook, each with the call that it was made for.

    Hooks of one provider between which the chain has others are called separately, each with its own `seq`.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, tuple[Any, Call]] = {}

    def close(self) -> None:
        """The stream is over. A handler that has a `close` is told."""
        for name in list(self.handlers):
            self.end(name)

    def end(self, name: str) -> None:
        """Forget the handler of one hook."""
        handler, _ = self.handlers.pop(name, (None, None))
        if (close := getattr(handler, "close", None)) is not None:
            close()


class Outcome:
    """The results of one call, and what its hooks made of its value."""

    def __init__(self) -> None:
        self.results: list[Message] = []
        self.value: Message | None = None
        self.errors: list[tuple[str, BaseException]] = []
        """Hooks that raised, for the one who has to mend them."""


def answer(
    message: Message,
    hooks: Mapping[str, Mapping[str, Runner]],
    stream: Stream | None,
    arrived: float,
    deadlines: Mapping[str, float] | None = None,
) -> Outcome:
    """Run the hooks of a call. `hooks` are runners by name and point; `stream` is that of the request, at `chunk`.
    `deadlines`: seconds that each may take, as the call's own deadline is for all of them together.
    """
    outcome = Outcome()
    point, names = message["point"], message["hooks"]
    shown = message["value"].get(SUBJECTS.get(point))  # a newer daemon may have more points
    about = message["value"].get("call", {})
    until, each = arrived + message.get("deadline_ms", 1000) / 1000, deadlines or {}
    for index, name in enumerate(names):
        runner = hooks.get(name, {}).get(point)
        state = message.get("states", {}).get(name)
        deadline = min(until, monotonic() + each.get(name, until))
        call = Call(point, message.get("id", ""), **about, state=state, deadline=deadline)
        start, decided, result = perf_counter(), Verdict("unchanged"), {"hook": name}
        try:
            if runner is None:
                raise Failure(f"there is no hook {name!r} at {point!r} here")
            if monotonic() > call.deadline and point != "chunk" and message["call"]:
                raise Failure("there was no time left for it")
            if point == "chunk":
                text, call, state = _handle(runner, call, stream, name, message, shown, result)
                decided = Verdict("unchanged") if text == shown else Verdict("changed", text)
            else:
                decided = _decide(runner, call, shown if index == len(names) - 1 else clone(shown))
        except Stop as stop:
            decided = Verdict("stop", stop.text, stop.reason)
        except BaseException as error:  # also SystemExit: one hook must not end the thread that runs them all
            outcome.errors.append((name, error))
            decided = Verdict("error", reason=why(error))
        result |= _said(decided, call.state if call.state is not state else None)
        result["us"] = round((perf_counter() - start) * 1_000_000)
        outcome.results.append(result)
        if decided.kind in ("changed", "answer", "stop"):
            shown = shown | {"text": decided.value} if point == "answer" else decided.value
            outcome.value = _changed(point, decided)
        if decided.kind in ("refuse", "answer", "stop"):
            break
    return outcome


def _decide(runner: Runner, call: Call, shown: Any) -> Verdict:
    verdict: Verdict | None = runner(shown, call)
    if verdict is None:
        return Verdict("unchanged")
    if not isinstance(verdict, Verdict):
        raise Failure(f"it returned {_kind(verdict)}: return None, changed(...), refuse(...) or another verdict")
    if verdict.kind not in ALLOWED[call.point]:
        raise Failure(f"{verdict.kind!r} cannot be said at {call.point!r}")
    if (wrong := _wrong(call.point, verdict)) is not None:
        raise Failure(f"{verdict.kind}({_kind(verdict.value)}) at {call.point!r}: expected {wrong}")
    return verdict


def _wrong(point: str, verdict: Verdict) -> str | None:
    """Return what should have been said instead of a value that the daemon would not take."""
    value = verdict.value
    match verdict.kind, point:
        case ("answer", _) | ("changed", "answer"):
            return None if isinstance(value, str) else "the text"
        case "changed", "request":
            return None if isinstance(value, dict) else "the request"
        case "changed", "prompt":
            good = isinstance(value, list) and value and all(_is_message(each) for each in value)
            return None if good else "a list of messages, each with the texts `role` and `content`"
    return None


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _handle(
    runner: Runner, call: Call, stream: Stream | None, name: str, message: Message, text: str, result: Message
) -> tuple[str, Call, bytes | None]:
    """Give text to a handler; returns what may go out, and the call that the handler knows, with its state before.

    The handler is made with the first call of its stream, and a handler that failed is not asked again.
    """
    if stream is None:
        raise Failure("its stream was begun elsewhere")
    if message.get("seq", 0) == 0:
        stream.end(name)
        state = call.state
        stream.handlers[name] = runner(None, call), call
    elif name not in stream.handlers:
        raise Failure("its handler is not here any more")
    else:
        state = stream.handlers[name][1].state
    handler, known = stream.handlers[name]
    known.deadline, known.last = call.deadline, message.get("last", False)
    call = known
    if handler is None:  # it leaves this answer alone
        return text, call, state
    flush, last = message.get("flush", False), message.get("last", False)
    try:
        out = handler.feed(text) if text else ""
        if last or (flush and handler.held):  # one that holds nothing is asked for the rest at the end only
            out += handler.flush()
        if not isinstance(out, str):
            raise Failure(f"it returned {_kind(out)}: expected the text that may go out")
        held = 0 if last else int(handler.held)
        if last:
            stream.handlers.pop(name, None)
    except BaseException:
        stream.handlers.pop(name, None)
        raise
    if held:
        result["held"] = held
    return out, call, state


def _said(verdict: Verdict, state: bytes | None) -> Message:
    said: Message = {} if verdict.kind == "unchanged" else {"verdict": verdict.kind}
    if verdict.reason:
        said["reason"] = verdict.reason[:REASON]
    if verdict.note:
        said["note"] = verdict.note
    if state is not None:
        said["state"] = state
    return said


def _changed(point: str, verdict: Verdict) -> Message:
    if verdict.kind in ("answer", "stop") or point in ("chunk", "answer"):
        return {"text": verdict.value}
    return {SUBJECTS[point]: verdict.value}


def why(error: BaseException) -> str:
    """Return what the daemon is told of an exception."""
    text = str(error)
    if isinstance(error, Failure):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def clone(value: Any) -> Any:
    """Return a copy of a value that came as MessagePack."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clone(item) for item in value]
    return value


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
