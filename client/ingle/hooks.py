"""Hooks from any program: take part in the requests of your account for as long as you are connected.

    from ingle.hooks import changed, hook, run

    @hook(point="prompt", order=300)
    def shout(messages, call):
        return changed([m | {"content": m["content"].upper()} for m in messages])

    run()

A hook's function gets what its point shows, by name, and returns what it decided: `changed(...)`, `refuse(why)`,
`answered(text)`, `note(...)`, or None for unchanged. What it raises is its failure, and `on_error` says what becomes
of the request. Functions of one name at several points are one hook: they share its place in the chain
and `call.state`.

    point      gets             may return
    request    request, call    changed(request), refuse, note
    prompt     messages, call   changed(messages), refuse, answered(text), note
    chunk      call             a handler with `feed(text)`, `flush()` and `held`; or, with a parameter `text`, the text
    answer     answer, call     changed(text) where it was not streamed, refuse, note
    observe    answer, call     nothing: nobody waits
    model      change           nothing: nobody waits
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from ingle.hook_calls import SUBJECTS, Call, Runner
from ingle.provider import Hook, OnError, Provider, log
from ingle.verdicts import Stop, Verdict, answered, changed, note, refuse

__all__ = [
    "Call",
    "Hook",
    "Provider",
    "Stop",
    "Verdict",
    "answered",
    "changed",
    "hook",
    "note",
    "refuse",
    "run",
]

F = TypeVar("F", bound=Callable[..., Any])
Point = Literal["request", "prompt", "chunk", "answer", "observe", "model"]

_marked: dict[str, Hook] = {}
"""What `run()` offers."""


def hook(
    point: Point,
    *,
    name: str | None = None,
    version: str | None = None,
    order: int | None = None,
    deadline_ms: int | None = None,
    on_error: Literal["refuse", "skip"] | None = None,
    trial: bool | None = None,
    security: bool | None = None,
    scope: Literal["account", "connection", "all"] | None = None,
    models: Sequence[str] = (),
    accounts: Sequence[str] = (),
    tags: Sequence[str] = (),
    hold_chars: int | None = None,
    hold_ms: int | None = None,
) -> Callable[[F], F]:
    """Mark a function as a hook at a point; it stays an ordinary function, which tests can call.

    Its name is the function's, in small letters, if no other is given. What is not said is the daemon's default
    (docs/protocol.md, Hooks). `models`, `accounts` and `tags` (of the client)
    select requests. `hold_chars` and `hold_ms` say how much text a chunk handler may hold back, and how long.
    """
    given = {"version": version, "order": order, "deadline_ms": deadline_ms, "on_error": on_error, "trial": trial,
             "security": security, "scope": scope,
             "select": _said(models=list(models), accounts=list(accounts), tags=list(tags)),
             "hold": _said(chars=hold_chars, ms=hold_ms)}  # fmt: skip

    def mark(function: F) -> F:
        called = name or str(getattr(function, "__name__", "")).lower().strip("_")
        runner = _runner(point, called, function)
        known = _marked.setdefault(called, Hook(called, {}))
        offer = _said(**given)
        for key, value in offer.items():
            if known.offer.get(key, value) != value:
                raise ValueError(f"hook {called!r} has {key} {known.offer[key]!r} at another point, and {value!r} here")
        known.runners[point] = runner
        known.offer.update(offer)
        function.ingle_hook = known  # type: ignore[attr-defined]
        return function

    return mark


def run(
    *hooks: Any,
    socket: str | None = None,
    threads: int = 1,
    name: str = "python",
    tags: Sequence[str] = (),
    on_error: OnError = log,
) -> None:
    """Offer these hooks, or all that are marked, and serve them until interrupted (Ctrl-C).

    A daemon that goes away is waited for. Raises Unreachable when there is none at the beginning, and Refused when it
    does not take a hook. Calls run one after another, or in as many `threads`.
    """
    offered = hooks or tuple(_marked.values())
    if not offered:
        raise ValueError("there are no hooks to offer: mark a function with @hook(point=...)")
    try:
        with Provider(*offered, socket=socket, threads=threads, name=name, tags=tags, on_error=on_error) as provider:
            provider.wait()
    except KeyboardInterrupt:
        pass


def _said(**given: Any) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value not in (None, [], {})}


def _runner(point: str, name: str, function: Callable[..., Any]) -> Runner:
    """Return what calls the function with those arguments that it names."""
    from inspect import signature

    subject = SUBJECTS[point]
    known = ("call",) if point == "chunk" else (subject, "call")
    parameters = list(signature(function).parameters)
    if point == "chunk" and "text" in parameters:
        _check(name, point, parameters, ("text", "call"))
        return lambda _, call: _Plain(function, {"call": call} if "call" in parameters else {})
    _check(name, point, parameters, known)

    def runner(shown: Any, call: Call) -> Any:
        arguments = {subject: shown, "call": call}
        return function(**{key: arguments[key] for key in parameters})

    return runner


def _check(name: str, point: str, parameters: list[str], known: Sequence[str]) -> None:
    for parameter in parameters:
        if parameter not in known:
            raise TypeError(f"hook {name!r} at {point!r} has a parameter {parameter!r}: it may have {', '.join(known)}")


class _Plain:
    """A handler that is a function from text to text, and holds nothing back."""

    held = 0

    def __init__(self, function: Callable[..., str], more: dict[str, Any]) -> None:
        self._function = function
        self._more = more

    def feed(self, text: str) -> str:
        return self._function(text=text, **self._more)

    def flush(self) -> str:
        return ""
