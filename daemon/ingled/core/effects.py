"""What the core asks its shell to do. The shell (`ingled.broker.shell`) carries out each in one place."""

from typing import Any, Literal

from ingle.wire.hook_schema import Point
from ingle.wire.schema import Accepted, Done, Failed, Progress, Result
from msgspec import Struct

from ingled.core.chain import Hop
from ingled.core.events import ConnectionGone
from ingled.core.requests import Record


class Send(Struct, frozen=True):
    """Send a message to a connection, if it still exists."""

    conn: int
    message: Accepted | Progress | Result | Failed


class OpenStream(Struct, frozen=True):
    """Make the stream of a new request; `keep` holds all its text for later attaches."""

    id: str
    account: str
    conn: int
    credit: int
    keep: bool


class RunRequest(Struct, frozen=True):
    """Give a request to a worker, with the credit that its stream has, and behind the tokens that it has."""

    worker: str
    record: Record


class HoldRequest(Struct, frozen=True):
    """Give a request to a worker that only holds it, until `BeginRequest`: there is no place for it yet."""

    worker: str
    record: Record


class KeepWaiting(Struct, frozen=True):
    """Keep a request that no worker holds for the daemon that may come after this one, until it runs or is over."""

    record: Record


class BeginRequest(Struct, frozen=True):
    """Have a worker run a request that it holds."""

    worker: str
    id: str
    priority: int


class AbortRequest(Struct, frozen=True):
    """Make a worker end a request and forget it."""

    worker: str
    id: str


class ReleaseRequest(Struct, frozen=True):
    """Let a worker forget a request that has ended."""

    worker: str
    id: str


class AdoptStream(Struct, frozen=True):
    """Make the stream of a request that was accepted by an earlier daemon; nobody reads it yet."""

    record: Record
    offset: int
    tokens: list[int]


class ReplayText(Struct, frozen=True):
    """Take text that an earlier daemon had of an answer; offset, size and message of each chunk."""

    id: str
    text: list[tuple[int, int, bytes]]


class CloseStream(Struct, frozen=True):
    """End a stream after all its text has been taken; the shell reports `Delivered` then."""

    id: str
    end: Done | Failed


class CutStream(Struct, frozen=True):
    """End a stream now and forget it; text that was not taken is dropped. Without `end` nobody is told."""

    id: str
    end: Failed | None = None


class DetachStream(Struct, frozen=True):
    """The stream has no reader for now."""

    id: str


class AttachStream(Struct, frozen=True):
    """A connection reads the stream from `offset` on; the shell answers `accepted`, or why not."""

    id: str
    conn: int
    ref: int
    offset: int
    credit: int


class CallHooks(Struct, frozen=True):
    """Call hooks of a provider; with `reply` the shell reports `HookReplied` or `HookFailed`.

    Without, nobody waits: it reports `Observed` or `ObserverFailed`, unless its provider does not confirm.
    """

    provider: str
    id: str
    point: Point
    hooks: tuple[str, ...]
    value: dict[str, Any]
    states: dict[str, bytes]
    deadlines: tuple[int, ...]
    """Milliseconds, for each hook."""
    reply: bool
    so_far: bool = False
    """The answer's text is what there is of it now."""
    confirmed: bool = True
    """The provider answers this call."""


class OpenStages(Struct, frozen=True):
    """The text of this request passes these handlers from now on; without any it is only held whole."""

    record: Record
    hops: list[Hop]


class FeedText(Struct, frozen=True):
    """Text of an answer that no worker streams."""

    id: str
    text: str


class DeliverText(Struct, frozen=True):
    """Give the reader the whole text of a sealed answer."""

    id: str
    text: str


class FinishStages(Struct, frozen=True):
    """The engine is done: the shell reports `StationsEnded` when all text has passed."""

    id: str


class ProviderGone(Struct, frozen=True):
    """A connection that offered hooks has ended: its calls have failed."""

    provider: str


class ForgetHooks(Struct, frozen=True):
    """A request is over: late replies are dropped, and chunk handlers told."""

    id: str


class StartWorker(Struct, frozen=True):
    """Have the nursery fork a worker for this model, on these devices."""

    model: str
    on: tuple[int, ...] = (0,)


class AddAdapter(Struct, frozen=True):
    """Have a worker load an adapter; the shell reports `AdapterReady` or `AdapterFailed`."""

    worker: str
    model: str


class DropAdapter(Struct, frozen=True):
    """Have a worker forget an adapter; the shell reports `AdapterGone`."""

    worker: str
    model: str


class StopWorker(Struct, frozen=True):
    """Have this worker leave; it is killed if it does not."""

    model: str
    worker: str | None
    pid: int | None


class SleepWorker(Struct, frozen=True):
    """Have a worker's engine sleep; the shell reports `WorkerAsleep` or `SleepFailed`."""

    model: str
    worker: str
    level: int


class WakeWorker(Struct, frozen=True):
    """Have a worker's engine wake; the shell reports `WorkerReady` or `SleepFailed`."""

    model: str
    worker: str


class CheckWorker(Struct, frozen=True):
    """Have a worker see that its engine answers as before; the shell reports `WorkerReady` or `EngineDied`."""

    model: str
    worker: str


class AllowSuspend(Struct, frozen=True):
    """Nothing here keeps the machine from being suspended any longer."""


class SetTimer(Struct, frozen=True):
    """Report `TimerFired(key)` at this monotonic time; replaces an earlier timer of the key."""

    key: tuple[str, str]
    at: float


class ClearTimer(Struct, frozen=True):
    """Forget a timer."""

    key: tuple[str, str]


class ForgetModel(Struct, frozen=True):
    """A model that the configuration has no more has gone."""

    model: str


class Publish(Struct, frozen=True):
    """Tell subscribers; with an account only those who may see its requests."""

    topic: str
    value: dict[str, Any]
    account: str | None = None


class Log(Struct, frozen=True):
    """Write a line to the daemon's log."""

    level: Literal["info", "warning", "error"]
    text: str
    model: str = ""
    """Which model it is about, if any; so the next one."""
    hook: str = ""


class Continue(Struct, frozen=True):
    """Hand in this event once more, in another turn of the loop: there is more to do than others should wait for."""

    event: ConnectionGone


class Drained(Struct, frozen=True):
    """Draining, and nothing runs any more."""


Effect = (
    Send
    | OpenStream
    | RunRequest
    | HoldRequest
    | KeepWaiting
    | BeginRequest
    | AbortRequest
    | ReleaseRequest
    | AdoptStream
    | ReplayText
    | CloseStream
    | CutStream
    | DetachStream
    | AttachStream
    | CallHooks
    | OpenStages
    | FeedText
    | DeliverText
    | FinishStages
    | ForgetHooks
    | ProviderGone
    | StartWorker
    | ForgetModel
    | AddAdapter
    | DropAdapter
    | StopWorker
    | SleepWorker
    | WakeWorker
    | CheckWorker
    | AllowSuspend
    | SetTimer
    | ClearTimer
    | Publish
    | Log
    | Continue
    | Drained
)
