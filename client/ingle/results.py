"""What the daemon answers, as typed and frozen values. Replies may hold more than is named here: it is
ignored.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ingle.errors import ProtocolError, from_failed
from ingle.wire.codec import Message
from ingle.wire.schema import ModelRef, Timings, Usage

T = TypeVar("T")


class Delta(Struct, frozen=True):
    """A piece of an answer."""

    text: str
    reasoning: str
    offset: int
    """Where it starts, in UTF-8 bytes of reasoning and text together."""
    logprobs: list[dict[str, Any]] = []


class Answer(Struct, frozen=True):
    """A whole answer."""

    id: str
    text: str
    reasoning: str
    finish: str
    """Why it ended: `stop`, `length`, `repetition`, or `content_filter` where a hook stopped it."""
    usage: Usage
    ms: Timings
    model: ModelRef
    hooks: list[dict[str, Any]]
    """What took part, and what each did."""
    stop: str | None = None
    """The stop string that ended it."""
    logprobs: list[dict[str, Any]] = []
    resumed: int = 0
    """How many times a worker had to be replaced under way."""


class Embeddings(Struct, frozen=True):
    """The vectors of some texts, in their order."""

    id: str
    vectors: list[list[float]]
    usage: Usage
    ms: Timings
    model: ModelRef
    hooks: list[dict[str, Any]]
    resumed: int = 0


class Progress(Struct, frozen=True):
    """What an accepted request waits for."""

    phase: str
    position: int | None = None
    percent: int | None = None
    eta_ms: int | None = None
    what: str | None = None


class Event(Struct, frozen=True):
    """Something happened in the daemon; `lost` events before it were dropped, as nobody read them."""

    topic: str
    value: dict[str, Any]
    lost: int = 0


class Model(Struct, frozen=True, kw_only=True):
    """A model and what is known of it now; None is: not known."""

    name: str
    state: str
    aliases: list[str] = []
    default: bool = False
    ops: list[str] = []
    """What it can be asked."""
    base: str | None = None
    """The model that it adapts, and in whose worker it runs."""
    engine: str | None = None
    source: str | None = None
    license: str | None = None
    revision: str | None = None
    context: int | None = None
    why: str | None = None
    """Why it failed."""
    log: list[str] | None = None
    """Last lines of its worker's log, while it has failed; for administrators."""
    since_s: float | None = None
    phase: str | None = None
    percent: float | None = None
    pid: int | None = None
    device: str | None = None
    devices: list[str] | None = None
    """Those that it is on, where there are several."""
    kv_use: float | None = None
    """How full the KV cache is, from 0 to 1."""
    kv_tokens: int | None = None
    kv_bytes: int | None = None
    weights_bytes: int | None = None
    rss_bytes: int | None = None
    running: int | None = None
    waiting: int | None = None
    tokens_total: int | None = None
    tokens_s: float | None = None
    cached_tokens: int | None = None
    prompt_tokens: int | None = None
    idle_s: float | None = None
    load_s: float | None = None
    need_bytes: int | None = None
    sleep_level: int | None = None
    """At which it sleeps: 1 (its weights are in the machine's memory) or 2."""
    no_sleep: str | None = None
    """Why it cannot sleep."""
    pinned: bool = False
    waits: str | None = None
    """Why it is not being loaded, though it is wanted."""
    expires_s: float | None = None
    """Seconds until it is unloaded, if nobody asks it."""
    options: dict[str, Any] | None = None
    """Options of the engine; told by `Client.show` only, as are the next two, and to administrators."""
    sampling: dict[str, Any] = {}
    story: list[str] = []


class RequestInfo(Struct, frozen=True):
    """A request."""

    id: str
    state: str
    model: str | None = None
    op: str | None = None
    age_s: float | None = None
    offset: int = 0
    detach: bool = False
    account: str | None = None


class Who(Struct, frozen=True):
    """The account that one is, and what it may do."""

    account: str
    may: list[str]
    """Of `hook`, `load`, `requests` and `shutdown`."""
    models: list[str]
    """Those that it may use."""
    rule: str
    """Which rule of the daemon decides."""
    user: str | None = None
    groups: list[str] = []
    priority: str = "normal"
    limits: dict[str, int | None] = {}
    open_requests: int = 0
    tokens_left: dict[str, int | None] = {}
    """By period (`minute`, `day`)."""


class Daemon(Struct, frozen=True):
    """The daemon's process."""

    name: str
    version: str
    boot: str
    pid: int | None = None
    uptime_s: float | None = None
    socket: str | None = None
    state_dir: str | None = None
    rss_bytes: int | None = None
    draining: bool = False


class Status(Struct, frozen=True):
    """How the daemon is."""

    daemon: Daemon
    protocol: tuple[int, int]
    models: dict[str, int]
    requests: dict[str, int]
    connections: int = 0
    sessions: int = 0
    dropped: dict[str, int] = {}
    nursery: dict[str, Any] = {}


def read(value: Any, kind: type[T]) -> T:
    """Return a reply as the type it should have. Raises ProtocolError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the daemon sent a wrong {kind}: {error}") from error


class Transcript:
    """What has been said of one answer so far; both clients' streams fill it."""

    def __init__(self, on_progress: Callable[[Progress], None] | None = None, offset: int | None = 0) -> None:
        self.offset = offset
        """Where it begins; None: where its first chunk does."""
        self.id: str | None = None
        self.answer: Answer | None = None
        self.embeddings: Embeddings | None = None
        self._on_progress = on_progress
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return "".join(self._text)

    def add(self, message: Message) -> Delta | None:
        """Take the next message; returns new text if it has some. Raises what a `failed` message means."""
        match message["t"]:
            case "chunk":
                delta = Delta(message.get("x", ""), message.get("r", ""), message["o"], message.get("p", []))
                self.offset = delta.offset if self.offset is None else self.offset
                self._text.append(delta.text)
                self._reasoning.append(delta.reasoning)
                self._logprobs += delta.logprobs
                return delta
            case "accepted":
                self.id = message["id"]
            case "progress" if self._on_progress is not None:
                self._on_progress(read(message, Progress))
            case "done" if "vectors" in (result := message.get("result") or {}):
                self.embeddings = read(message | result, Embeddings)
            case "done":
                self.answer = self._end(message)
            case "failed":
                raise from_failed(message)
        return None

    def _end(self, done: Message) -> Answer:
        streamed: Message = {"text": self.text, "reasoning": "".join(self._reasoning)}
        streamed["logprobs"] = self._logprobs
        whole = {key: value for key, value in (done.get("result") or {}).items() if key in streamed}
        return read(done | streamed | whole, Answer)
