"""What can happen to the daemon: every value that `Control.handle` takes.

Events are facts in the past. Each carries `now` (monotonic seconds), so that the core never reads a clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingle.wire.hook_schema import HookOffer, HookResult, Point
from msgspec import Raw

from ingled.core.accounts import MEMBER, Rights
from ingled.core.ladder import Sleep
from ingled.core.placement import Device
from ingled.core.registry import Entry
from ingled.core.requests import Record

if TYPE_CHECKING:
    from ingled.core.desk import Limits
    from ingled.core.pipeline import Rule
    from ingled.core.residency import Model


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a connection, the account that the kernel vouches for, and what it may do."""

    conn: int
    account: str
    rights: Rights = MEMBER

    def sees(self, account: str) -> bool:
        """Return whether it may see, end and read requests of this account."""
        return account == self.account or "requests" in self.rights.may


@dataclass(frozen=True, slots=True)
class RequestArrived:
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


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants a request to end."""

    now: float
    caller: Caller
    ref: int
    id: str


@dataclass(frozen=True, slots=True)
class AttachAsked:
    """Somebody wants the stream of a request from `offset` on."""

    now: float
    caller: Caller
    ref: int
    id: str
    offset: int
    credit: int


@dataclass(frozen=True, slots=True)
class LoadAsked:
    """Somebody wants a model resident; with `wait` the answer comes when it is ready or has failed."""

    now: float
    caller: Caller
    ref: int
    model: str
    wait: bool


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """Somebody wants a model to give its memory back; `force` ends what it is running."""

    now: float
    caller: Caller
    ref: int
    model: str
    force: bool


@dataclass(frozen=True, slots=True)
class PinAsked:
    """Somebody wants a model not to be put out for others, or to be like others again."""

    now: float
    caller: Caller
    ref: int
    model: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class WantAsked:
    """Somebody will probably ask a model soon."""

    now: float
    caller: Caller
    ref: int
    model: str
    within_s: float


@dataclass(frozen=True, slots=True)
class YieldAsked:
    """Somebody wants memory: idle models are to give theirs back, so many bytes or all."""

    now: float
    caller: Caller
    ref: int
    need: int | None


@dataclass(frozen=True, slots=True)
class SleepAsked:
    """Somebody wants a model to sleep, at a level or at the lightest for which there is memory."""

    now: float
    caller: Caller
    ref: int
    model: str
    level: int | None


@dataclass(frozen=True, slots=True)
class WorkerAsleep:
    """A worker's engine sleeps; of the device it keeps `left` bytes."""

    now: float
    model: str
    pid: int
    level: int
    left: int


@dataclass(frozen=True, slots=True)
class SleepFailed:
    """A worker's engine was to sleep or to wake, and did not do it as it should: its process is about to end."""

    now: float
    model: str
    pid: int
    why: str


@dataclass(frozen=True, slots=True)
class SleepSeen:
    """It is known, or known better, how a model sleeps."""

    now: float
    model: str
    sleep: Sleep


@dataclass(frozen=True, slots=True)
class HostSeen:
    """So many bytes of the machine's memory are free for weights of models that sleep."""

    now: float
    free: int


@dataclass(frozen=True, slots=True)
class MemoryShort:
    """Others are left so many bytes less than they should be, for a while now; `host`: not of the device of models,
    but of the machine.
    """

    now: float
    bytes: int
    host: bool = False


@dataclass(frozen=True, slots=True)
class NeedSeen:
    """It is known, or known better, what a model takes, and how long it loads (None: it never did)."""

    now: float
    model: str
    need: int
    load_s: float | None


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """There is more or less memory for models than there was."""

    now: float
    device: Device
    index: int = 0
    """Which of them, where there are several."""


@dataclass(frozen=True, slots=True)
class ConnectionGone:
    """A connection ended; `left` when its client said `bye`."""

    now: float
    conn: int
    left: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """The end of a request and all text before it was handed to its connection."""

    now: float
    id: str


@dataclass(frozen=True, slots=True)
class WorkerForked:
    """The nursery forked a worker for a model."""

    now: float
    model: str
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerAttached:
    """A worker of a model has connected; `worker` names its link."""

    now: float
    model: str
    worker: str
    pid: int
    on: tuple[int, ...] = ()
    """Devices that it is on, as it was told by whoever started it; empty: not known."""


@dataclass(frozen=True, slots=True)
class WorkerLoading:
    """A worker reports how far its load is."""

    now: float
    model: str
    pid: int
    phase: str
    percent: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker can serve; its engine runs so many requests at once (0: any number)."""

    now: float
    model: str
    pid: int
    places: int = 0


@dataclass(frozen=True, slots=True)
class AdapterReady:
    """A worker has this adapter: it has loaded it, or a new broker is told what is there."""

    now: float
    model: str
    pid: int


@dataclass(frozen=True, slots=True)
class AdapterFailed:
    """A worker cannot load this adapter: `why` in the engine's words. It serves on."""

    now: float
    model: str
    pid: int
    why: str


@dataclass(frozen=True, slots=True)
class AdapterGone:
    """A worker has forgotten this adapter."""

    now: float
    model: str
    pid: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A worker cannot load its model: `why` in the engine's words, the last lines of its log."""

    now: float
    model: str
    pid: int
    why: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineDied:
    """A worker's engine is gone; its process is about to end."""

    now: float
    model: str
    pid: int
    why: str


@dataclass(frozen=True, slots=True)
class RequestAdopted:
    """An earlier broker had accepted this request; a worker holds it, or it waits for one, or for its hooks."""

    now: float
    record: Record
    offset: int
    tokens: list[int]
    text: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Where no worker holds it, what one had made from `offset` on: offset, size and message of each chunk."""


@dataclass(frozen=True, slots=True)
class RequestsMissed:
    """A worker has attached again and holds these requests; others that it was given did not reach it.

    Of those held it has not been told to begin those that are `waiting`.
    """

    now: float
    model: str
    pid: int
    held: frozenset[str]
    waiting: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker's process has ended."""

    now: float
    model: str
    pid: int
    why: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NurseryAttached:
    """The nursery has connected and takes orders."""

    now: float


@dataclass(frozen=True, slots=True)
class NurseryLoading:
    """The nursery reports how far the import of the engine is."""

    now: float
    percent: int


@dataclass(frozen=True, slots=True)
class NurseryFailed:
    """The nursery cannot be started: no model can be loaded until it can."""

    now: float
    why: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The engine finished a request; all its chunks came before."""

    now: float
    id: str
    finish: str
    prompt: int
    cached: int
    completion: int
    first_ms: float
    stop: str | None
    result: dict[str, Any] | None
    vectors: bytes = b""
    """Of an embedding, as the client gets them."""


@dataclass(frozen=True, slots=True)
class PlaceFreed:
    """The engine is done with a request of which text still waits for its reader; tokens as in `RunEnded`."""

    now: float
    id: str
    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The engine refused a request or failed at it."""

    now: float
    id: str
    code: str
    message: str
    hint: str
    fault: str
    at: str | None


@dataclass(frozen=True, slots=True)
class HookOffered:
    """A client wants to take part in requests."""

    now: float
    caller: Caller
    client: str
    offer: HookOffer


@dataclass(frozen=True, slots=True)
class HookWithdrawn:
    """A client takes part no more."""

    now: float
    caller: Caller
    ref: int
    name: str


@dataclass(frozen=True, slots=True)
class PluginsOffered:
    """A host of plugins has loaded them; those that cannot run are `broken`."""

    now: float
    provider: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class PluginsAwaited:
    """There is a host of plugins, or will be, and what it runs is not known yet."""

    now: float
    provider: str


@dataclass(frozen=True, slots=True)
class HookReplied:
    """Hooks have answered a call for a request."""

    now: float
    id: str
    point: Point
    results: tuple[HookResult, ...]
    value: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class HookFailed:
    """Hooks have not answered: `blamed` were at work, all of the call where none is named."""

    now: float
    id: str
    point: Point
    blamed: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Hooks of a provider have been told of what they observe."""

    now: float
    provider: str
    point: Point
    results: tuple[HookResult, ...]


@dataclass(frozen=True, slots=True)
class ObserverFailed:
    """Hooks of a provider could not be told of what they observe, or not in time."""

    now: float
    provider: str
    point: Point
    hooks: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class HookAgain:
    """The hooks that were called have lost their host through no fault of this call: it is made again."""

    now: float
    id: str
    point: Point


@dataclass(frozen=True, slots=True)
class StagesEnded:
    """All text of a request has passed its chunk handlers: this is it."""

    now: float
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class StageStopped:
    """A chunk handler wants no more of an answer."""

    now: float
    id: str
    hook: str
    why: str


@dataclass(frozen=True, slots=True)
class StageFailed:
    """A chunk handler failed whose policy is to refuse."""

    now: float
    id: str
    hook: str
    why: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that the core had set has run out."""

    now: float
    key: tuple[str, str]


@dataclass(frozen=True, slots=True)
class ModelsChanged:
    """The configuration has other models: these are new or have changed, and all of `names` are there from now on."""

    now: float
    models: tuple["Model", ...]
    names: Mapping[str, tuple[str, ...]]
    """The aliases of each."""
    default: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """The daemon is to stop: new requests are refused, running ones go on."""

    now: float


@dataclass(frozen=True, slots=True)
class DrainExpired:
    """The daemon stops now: what still runs is ended."""

    now: float


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The configuration was read anew: bounds, and the rules for hooks that clients offer from now on."""

    now: float
    limits: "Limits"
    hooks: "Mapping[str, Rule]"
    patience_s: float


Event = (
    RequestArrived
    | SettingsChanged
    | ModelsChanged
    | CancelAsked
    | AttachAsked
    | LoadAsked
    | UnloadAsked
    | PinAsked
    | WantAsked
    | YieldAsked
    | SleepAsked
    | WorkerAsleep
    | SleepFailed
    | SleepSeen
    | HostSeen
    | MemoryShort
    | NeedSeen
    | DeviceSeen
    | ConnectionGone
    | Delivered
    | WorkerForked
    | WorkerAttached
    | WorkerLoading
    | WorkerReady
    | LoadFailed
    | AdapterReady
    | AdapterFailed
    | AdapterGone
    | EngineDied
    | RequestAdopted
    | RequestsMissed
    | WorkerGone
    | NurseryAttached
    | NurseryLoading
    | NurseryFailed
    | RunEnded
    | PlaceFreed
    | RunFailed
    | HookOffered
    | HookWithdrawn
    | PluginsOffered
    | PluginsAwaited
    | HookReplied
    | HookFailed
    | HookAgain
    | Observed
    | ObserverFailed
    | StagesEnded
    | StageStopped
    | StageFailed
    | TimerFired
    | DrainAsked
    | DrainExpired
)
