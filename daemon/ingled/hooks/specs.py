"""The hooks that a plugin may implement, each with its promise and an example that the tests run.

A plugin is a module. It implements some of these functions, with as many of their parameters as it needs, marks each
with `hookimpl`, and may say more about itself:

    HOOK = Hook(order=200, on_error="refuse")        # defaults that the configuration can override
    VERSION = "1.2"
    class Options(msgspec.Struct): ...               # its typed options, from the configuration
    def check(options): ...                          # may raise ValueError for options that cannot be

Every call has a deadline and runs in the hook host, never in the daemon itself. What a hook gets is its own copy.
A function that raises has failed, and `on_error` says what becomes of the request.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

import pluggy
from ingle.verdicts import Verdict
from ingle.wire.hook_schema import Hold, OnError, Point
from msgspec import Struct

PROJECT = "ingled"
"""Name of the entry point group, and of pluggy's project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hook(Struct, frozen=True, forbid_unknown_fields=True):
    """What a plugin says about itself: defaults, which its table in the configuration overrides."""

    order: int = 500
    deadline_ms: int = 1000
    on_error: OnError = "skip"
    hold: Hold = Hold()
    """For `ingled_chunk`: characters and milliseconds that it may hold back."""
    security: bool = False
    """Nothing may pass by it: a request at which it fails is refused, and no text goes out that it has not seen."""


class Message(TypedDict):
    """One turn: role `system`, `user` or `assistant`, or `prompt` for the prompt of a completion."""

    role: str
    content: str


class RequestValue(TypedDict):
    """A request before its model is chosen for good."""

    model: str | None
    op: str
    stream: bool
    options: dict[str, Any]
    """Sampling options under their OpenAI names."""


class Answer(TypedDict, total=False):
    """A finished answer. `messages` are what the model was shown; they and `failed` are there for observers only."""

    text: str
    finish: str
    model: dict[str, Any]
    """Name, and where known revision, license and digest."""
    usage: dict[str, int]
    options: dict[str, Any]
    messages: list[Message]
    hooks: list[dict[str, Any]]
    """Those that ran before, as `done` lists them."""
    failed: dict[str, str]
    """Where it did not end well, with `finish` "failed": `code`, `message` and `fault`; `text` is what there was."""


class Change(TypedDict):
    """A model has another state."""

    model: str
    state: str
    was: str
    why: str


@dataclass(slots=True)
class Call:
    """Which request this is. `state` is what this hook kept at an earlier point of it; assign bytes to keep others."""

    point: Point
    id: str = ""
    account: str = ""
    model: str = ""
    op: str = ""
    stream: bool = True
    client: str = ""
    tags: list[str] = field(default_factory=list)
    context: list[dict[str, str]] = field(default_factory=list)
    """What the client offers beside the messages: maps of `kind`, `name` and `text`."""
    state: bytes | None = None


class Handler(Protocol):
    """Handles the text of one answer, piece by piece; made anew for each by `ingled_chunk`."""

    @property
    def held(self) -> int:
        """Return how many characters of the input are in no output yet."""

    def feed(self, text: str) -> str:
        """Return what may go out now that this text has come. May raise Stop."""

    def flush(self) -> str:
        """Return all that is held: it has been held for too long, or the answer ends. May raise Stop.

        A handler that holds nothing is asked at the end only, and may add to the answer there.
        """


class Specs:
    """All hooks, in the order in which a request meets them."""

    @hookspec
    def ingled_request(self, request: RequestValue, call: Call, options: Any) -> Verdict | None:
        """See a request first: return `changed(request)` with another model or options, `refuse(why)`, or None.

        >>> def ingled_request(request):
        ...     if request["options"].get("max_tokens", 0) > 4096:
        ...         return changed(request | {"options": request["options"] | {"max_tokens": 4096}})
        """

    @hookspec
    def ingled_prompt(self, messages: list[Message], call: Call, options: Any) -> Verdict | None:
        """See the messages, before the template: `changed(messages)`, `refuse(why)`, `answered(text)`, or None.

        >>> def ingled_prompt(messages):
        ...     return changed([{"role": "system", "content": "Be brief."}, *messages])
        """

    @hookspec
    def ingled_chunk(self, call: Call, options: Any) -> Handler | None:
        """Return a handler for the text of this answer, or None to leave it alone.

        >>> class Loud:
        ...     held = 0
        ...     def feed(self, text):
        ...         return text.upper()
        ...     def flush(self):
        ...         return ""
        >>> def ingled_chunk():
        ...     return Loud()
        """

    @hookspec
    def ingled_answer(self, answer: Answer, call: Call, options: Any) -> Verdict | None:
        """See the whole answer before its end is told: `note(...)`; `changed(text)` where it was not streamed.

        >>> def ingled_answer(answer):
        ...     return note(words=len(answer["text"].split()))
        """

    @hookspec
    def ingled_observe(self, answer: Answer, call: Call, options: Any) -> None:
        """Get a copy of the prompt and the answer at every end, also where `answer["failed"]` says why; nobody waits.

        >>> seen = []
        >>> def ingled_observe(answer, call):
        ...     seen.append((call.account, answer["text"]))
        """

    @hookspec
    def ingled_model(self, change: Change, options: Any) -> None:
        """Be told that a model's state has changed; nobody waits.

        >>> def ingled_model(change):
        ...     print(change["model"], change["state"])
        """


POINTS: dict[Point, str] = {
    "request": "ingled_request",
    "prompt": "ingled_prompt",
    "chunk": "ingled_chunk",
    "answer": "ingled_answer",
    "observe": "ingled_observe",
    "model": "ingled_model",
}
"""The function of a plugin for each point."""
