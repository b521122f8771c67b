"""Every message of the public socket as a typed, frozen value (docs/protocol.md).

The daemon validates with these. Requests refuse unknown fields; replies ignore them, so that a newer daemon may
add some.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ingle.wire.hook_schema import HookCall, HookEnd, HookOffer, HookReply, HookWithdraw
from ingle.wire.limits import CONTEXT_ITEMS, CREDIT, DEFAULT_CREDIT, EMBED_INPUTS, MAX_REF, STRING

Ref = Annotated[int, Meta(ge=0, le=MAX_REF)]
Name = Annotated[str, Meta(min_length=1, max_length=STRING)]
Credit = Annotated[int, Meta(ge=0, le=CREDIT)]
Offset = Annotated[int, Meta(ge=0)]
Millis = Annotated[int, Meta(ge=0, le=86_400_000)]

Op = Literal["chat", "complete", "embed"]
Finish = Literal["stop", "length", "repetition", "content_filter"]
"""`content_filter`: a hook answered, or stopped the answer."""
Phase = Literal["queued", "loading", "evicting", "waking", "prefill"]
Fault = str
Code = Literal[
    "bad_message",
    "too_large",
    "unknown_field",
    "bad_value",
    "unsupported",
    "no_such_model",
    "no_such_request",
    "prompt_too_long",
    "not_allowed",
    "over_limit",
    "queue_full",
    "draining",
    "deadline",
    "cancelled",
    "refused_by_hook",
    "hook_failed",
    "license_needed",
    "does_not_fit",
    "load_failed",
    "worker_died",
    "engine_error",
    "incompatible_protocol",
    "already_exists",
    "conflict",
    "offline",
    "internal",
]

# ---------------------------------------------------------------- client -> daemon


class ClientInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """Who speaks: shown to administrators, trusted for nothing."""

    name: Name
    version: Name = "0"
    tags: Annotated[list[Name], Meta(max_length=16)] = []


class Hello(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hello"):
    """First message of a connection; `token` resumes an earlier session."""

    protocol: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]
    client: ClientInfo
    token: Name | None = None
    key: Name | None = None


class ContextItem(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a tool offers beside the messages: a `context` hook may show it to the model."""

    kind: Name
    text: str
    name: Name | None = None


class Request(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="request"):
    """Run a model. `body` is read according to `op`."""

    ref: Ref
    op: Name
    body: Raw
    model: Name | None = None
    stream: bool = True
    credit: Annotated[int, Meta(ge=0, le=CREDIT)] = DEFAULT_CREDIT
    deadline_ms: Annotated[int, Meta(ge=1, le=86_400_000)] | None = None
    detach: bool = False
    grace_ms: Millis = 0
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    context: Annotated[list[ContextItem], Meta(max_length=CONTEXT_ITEMS)] = []
    trace: bool = False
    """`done.hooks` is to show what each hook was given and what it made of it."""


class GiveCredit(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="credit"):
    """The client can take `n` more chunks of stream `id` and has its text up to offset `ack`."""

    id: Name
    n: Credit
    ack: Offset = 0


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="cancel"):
    """End a request or a subscription of the same account."""

    ref: Ref
    id: Name


class Attach(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="attach"):
    """Take over the stream of a request of the same account from `offset` on."""

    ref: Ref
    id: Name
    offset: Offset | None = None
    credit: Credit = DEFAULT_CREDIT


class Call(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="call"):
    """Ask the daemon itself: a verb with arguments."""

    ref: Ref
    verb: Name
    args: Raw = Raw(b"\x80")


class Subscribe(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="subscribe"):
    """Ask for events of these topics as a credited stream."""

    ref: Ref
    topics: Annotated[list[Name], Meta(min_length=1, max_length=16)]
    credit: Credit = DEFAULT_CREDIT


class Bye(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="bye"):
    """The client leaves; what it left running without `detach` is cancelled."""


FromClient = (
    Hello | Request | GiveCredit | Cancel | Attach | Call | Subscribe | Bye | HookOffer | HookWithdraw | HookReply
)

# ---------------------------------------------------------------- bodies of requests


class TextPart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A piece of text in a message's content."""

    text: str


class ChatMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: Name | None = None


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON schema that the answer must match."""

    schema: Raw
    name: Name = "answer"
    strict: bool = True


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True):
    """What the answer looks like: free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Sampling(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sampling options under their OpenAI and vLLM names; None means the model's default."""

    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_REF)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    stop: Name | Annotated[list[Name], Meta(max_length=16)] | None = None
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0
    response_format: ResponseFormat | None = None


class ChatBody(Sampling, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `op = "chat"`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]


class CompleteBody(Sampling, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `op = "complete"`: text goes on without a chat template."""

    prompt: Annotated[str, Meta(min_length=1)]


class EmbedOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of embeddings; None means the model's default."""

    dimensions: Annotated[int, Meta(ge=1)] | None = None
    """Length of the vectors, for models that were made to be cut short (Matryoshka)."""


class EmbedBody(EmbedOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of `op = "embed"`: each text becomes a vector."""

    input: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=EMBED_INPUTS)]


Body = ChatBody | CompleteBody | EmbedBody
BODIES: dict[str, type[ChatBody] | type[CompleteBody] | type[EmbedBody]] = {
    "chat": ChatBody,
    "complete": CompleteBody,
    "embed": EmbedBody,
}
TEXT_OPS: tuple[str, ...] = ("chat", "complete")
"""Those that are answered with text, which can come in chunks; the others come whole, in `done.result`."""

# ---------------------------------------------------------------- daemon -> client


class Welcome(Struct, frozen=True, tag_field="t", tag="welcome", omit_defaults=True):
    """Answer to `hello`: the protocol in use, the session and the daemon's limits."""

    protocol: tuple[int, int]
    token: str
    account: str
    limits: dict[str, int]
    daemon: dict[str, Any]
    ops: list[str]
    verbs: list[str]
    topics: list[str]
    resumed: bool = False


class Accepted(Struct, frozen=True, tag_field="t", tag="accepted"):
    """A request, attach or subscription has been taken; `id` names it from now on."""

    ref: int
    id: str


class Progress(Struct, frozen=True, tag_field="t", tag="progress", omit_defaults=True):
    """What an accepted request (by `id`) or a call that takes a while (by `ref`) waits for."""

    phase: Phase
    id: str | UnsetType = UNSET
    ref: int | UnsetType = UNSET
    position: int | UnsetType = UNSET
    percent: int | UnsetType = UNSET
    eta_ms: int | UnsetType = UNSET
    what: str | UnsetType = UNSET


class Chunk(Struct, frozen=True, tag_field="t", tag="chunk", omit_defaults=True):
    """A piece of the answer that starts at offset `o`, counted in UTF-8 bytes of `x` and `r` together."""

    id: str
    o: int
    x: str = ""
    r: str = ""
    p: list[dict[str, Any]] | UnsetType = UNSET


class Usage(Struct, frozen=True):
    """Tokens: of the prompt, of those how many came from the prefix cache, and of the answer."""

    prompt: int
    cached: int
    completion: int


class Timings(Struct, frozen=True):
    """Milliseconds: waiting for a place, waiting for the model, from run to first token, and all together."""

    queued: float
    load: float
    first: float
    total: float


class ModelRef(Struct, frozen=True, omit_defaults=True):
    """The model that answered."""

    name: str
    revision: str | None = None
    license: str | None = None


class Done(Struct, frozen=True, tag_field="t", tag="done", omit_defaults=True):
    """The request ended well; nothing follows for this id."""

    id: str
    finish: Finish
    usage: Usage
    ms: Timings
    model: ModelRef
    hooks: list[dict[str, Any]]
    stop: str | UnsetType = UNSET
    result: dict[str, Any] | UnsetType = UNSET
    resumed: int = 0


class Failed(Struct, frozen=True, tag_field="t", tag="failed", omit_defaults=True):
    """The request (by `id`) or message (by `ref`) failed; nothing follows for it."""

    code: Code
    message: str
    hint: str
    fault: Fault
    id: str | UnsetType = UNSET
    ref: int | UnsetType = UNSET
    at: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    hooks: list[dict[str, Any]] | UnsetType = UNSET
    """Those that ran before it failed, as in `done`."""


class Result(Struct, frozen=True, tag_field="t", tag="result"):
    """Answer to a `call`, `cancel`, `hook_offer` or `hook_withdraw`."""

    ref: int
    value: Any


class Event(Struct, frozen=True, tag_field="t", tag="event", omit_defaults=True):
    """Something happened; `lost` events before it did not fit the subscription's credit."""

    id: str
    topic: str
    value: dict[str, Any]
    lost: int = 0


ToClient = Welcome | Accepted | Progress | Chunk | Done | Failed | Result | Event | HookCall | HookEnd
