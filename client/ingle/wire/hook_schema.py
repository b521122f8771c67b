"""Messages between the daemon and whoever provides hooks: an editor over its own connection, or the hook host.

Part of the public protocol (docs/protocol.md, Hooks); a host of plugins uses the same messages over the private link.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ingle.wire.limits import HOOK_DEADLINE_MS, HOOK_HOLD_CHARS, HOOK_HOLD_MS, HOOK_STATE_BYTES, MAX_REF, STRING

Ref = Annotated[int, Meta(ge=0, le=MAX_REF)]
Name = Annotated[str, Meta(min_length=1, max_length=STRING)]
HookName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Reason = Annotated[str, Meta(max_length=4096)]

Point = Literal["request", "prompt", "chunk", "answer", "observe", "model"]
Verdict = Literal["unchanged", "changed", "refuse", "answer", "stop", "error"]
"""What a hook decided. `error`: it failed, and the daemon applies its `on_error`."""
OnError = Literal["refuse", "skip"]
Scope = Literal["account", "connection", "all"]


class Select(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests a hook takes part in; an empty list means any. `tags`: one of them is among the client's."""

    models: Annotated[list[Name], Meta(max_length=64)] = []
    accounts: Annotated[list[Name], Meta(max_length=64)] = []
    tags: Annotated[list[Name], Meta(max_length=16)] = []


class Hold(Struct, frozen=True, forbid_unknown_fields=True):
    """How much a chunk handler may hold back: characters of its input, and milliseconds."""

    chars: Annotated[int, Meta(ge=0, le=HOOK_HOLD_CHARS)] = 256
    ms: Annotated[int, Meta(ge=1, le=HOOK_HOLD_MS)] = 500


class HookOffer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_offer", omit_defaults=True):
    """Take part in requests from now on, until withdrawn or until this connection ends."""

    ref: Ref
    name: HookName
    points: Annotated[list[Point], Meta(min_length=1, max_length=6)]
    version: Name = "0"
    order: Annotated[int, Meta(ge=0, le=1000)] = 500
    """Place in the chain: lower is nearer to the client's request; equal ones go by name."""
    select: Select = Select()
    deadline_ms: Annotated[int, Meta(ge=1, le=HOOK_DEADLINE_MS)] = 1000
    """For each call."""
    on_error: OnError = "skip"
    trial: bool = False
    """It runs and is reported, and changes nothing."""
    scope: Scope = "account"
    hold: Hold = Hold()
    security: bool = False
    """Nothing may pass by it: a request at which it fails is refused, and no text goes out that it has not seen."""
    confirms: bool = False
    """It answers calls of `observe` and `model` too, so that what it fails at there is counted."""


class HookWithdraw(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_withdraw"):
    """Take part no more."""

    ref: Ref
    name: HookName


class HookResult(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one hook of a call did."""

    hook: HookName
    verdict: Verdict = "unchanged"
    reason: Reason = ""
    """Why it refused, stopped or failed."""
    us: Annotated[int, Meta(ge=0)] = 0
    """Microseconds that it took."""
    state: Annotated[bytes, Meta(max_length=HOOK_STATE_BYTES)] | None = None
    """What it wants to get back in later calls for this request; None leaves what there is."""
    held: Annotated[int, Meta(ge=0)] = 0
    """At `chunk`: characters of its input that are in no output yet."""
    note: dict[str, Any] | None = None
    """What `done.hooks` is to say beside the verdict."""


class HookReply(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_reply", omit_defaults=True):
    """Answer to a `hook_call`: a result for each hook of it in order, up to one that refused, answered or stopped."""

    call: Ref
    results: Annotated[list[HookResult], Meta(max_length=64)]
    value: dict[str, Any] | None = None
    """What the hooks made of the call's value, where one of them changed it."""


class HookCall(Struct, frozen=True, tag_field="t", tag="hook_call", omit_defaults=True):
    """Run these hooks one after another, each on what the one before it made of `value`.

    `call` 0 wants no reply: `observe` and `model`, where a client does not confirm. What `value` holds depends on the
    point.
    """

    call: int
    point: Point
    hooks: list[str]
    value: dict[str, Any]
    id: str = ""
    """The request."""
    seq: int = 0
    """At `chunk`: number of the call within the stream; 0 begins it anew."""
    last: bool = False
    """At `chunk`: no text follows, nothing may be held any more."""
    flush: bool = False
    """At `chunk`: give out what is held now."""
    states: dict[str, bytes] = {}
    """By hook, what it left with an earlier call; at `chunk` only with `seq` 0."""
    deadline_ms: int = 1000


class HookEnd(Struct, frozen=True, tag_field="t", tag="hook_end"):
    """The stream of a request is over for its chunk handlers: forget it."""

    id: str
