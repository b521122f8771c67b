"""What clients did: they asked for something, have got their answer, or have gone."""

from typing import Any

from msgspec import Raw, Struct

from ingled.core.accounts import Caller


class RequestArrived(Struct, frozen=True):
    """A valid request came in; `id` is fresh, `body` has been read according to `op`."""

    now: float
    caller: Caller
    ref: int
    id: str
    op: str
    model: str | None
    body: Raw
    stream: bool
    credit: int
    deadline_ms: int | None
    detach: bool
    grace_ms: int
    priority: int
    client: str = ""
    tags: tuple[str, ...] = ()
    context: tuple[dict[str, Any], ...] = ()
    trace: bool = False


class CancelAsked(Struct, frozen=True):
    """Somebody wants a request to end."""

    now: float
    caller: Caller
    ref: int
    id: str


class AttachAsked(Struct, frozen=True):
    """Somebody wants the stream of a request from `offset` on."""

    now: float
    caller: Caller
    ref: int
    id: str
    offset: int
    credit: int


class LoadAsked(Struct, frozen=True):
    """Somebody wants a model resident; with `wait` the answer comes when it is ready or has failed."""

    now: float
    caller: Caller
    ref: int
    model: str
    wait: bool


class UnloadAsked(Struct, frozen=True):
    """Somebody wants a model to give its memory back; `force` ends what it is running, with `wait` the answer comes
    when the memory is free.
    """

    now: float
    caller: Caller
    ref: int
    model: str
    force: bool
    wait: bool


class SleepAsked(Struct, frozen=True):
    """Somebody wants a model to sleep, at a level or at the lightest for which there is memory."""

    now: float
    caller: Caller
    ref: int
    model: str
    level: int | None


class PinAsked(Struct, frozen=True):
    """Somebody wants a model not to be put out for others, or to be like others again."""

    now: float
    caller: Caller
    ref: int
    model: str
    pinned: bool


class WantAsked(Struct, frozen=True):
    """Somebody will probably ask a model soon."""

    now: float
    caller: Caller
    ref: int
    model: str
    within_s: float


class YieldAsked(Struct, frozen=True):
    """Somebody wants memory: idle models are to give theirs back, so many bytes or all."""

    now: float
    caller: Caller
    ref: int
    need: int | None


class ConnectionGone(Struct, frozen=True):
    """A connection ended; `left` when its client said `bye`."""

    now: float
    conn: int
    left: bool


class Delivered(Struct, frozen=True):
    """The end of a request and all text before it was handed to its connection."""

    now: float
    id: str


OfClients = (
    RequestArrived
    | CancelAsked
    | AttachAsked
    | LoadAsked
    | UnloadAsked
    | SleepAsked
    | PinAsked
    | WantAsked
    | YieldAsked
    | ConnectionGone
    | Delivered
)
