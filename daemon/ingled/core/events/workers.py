"""What workers and the nursery did, and what engines made of requests."""

from typing import Any

from msgspec import Struct

from ingled.core.requests import Record


class NurseryAttached(Struct, frozen=True):
    """The nursery has connected and takes orders."""

    now: float


class NurseryLoading(Struct, frozen=True):
    """The nursery reports how far the import of the engine is."""

    now: float
    percent: int


class NurseryFailed(Struct, frozen=True):
    """The nursery cannot be started: no model can be loaded until it can."""

    now: float
    why: str
    log: tuple[str, ...] = ()


class WorkerForked(Struct, frozen=True):
    """The nursery forked a worker for a model."""

    now: float
    model: str
    pid: int


class WorkerAttached(Struct, frozen=True):
    """A worker of a model has connected; `worker` names its link."""

    now: float
    model: str
    worker: str
    pid: int
    on: tuple[int, ...] = ()
    """Devices that it is on, as it was told by whoever started it; empty: not known."""


class WorkerLoading(Struct, frozen=True):
    """A worker reports how far its load is."""

    now: float
    model: str
    pid: int
    phase: str
    percent: int


class WorkerReady(Struct, frozen=True):
    """A worker can serve; its engine runs so many requests at once (0: any number)."""

    now: float
    model: str
    pid: int
    places: int = 0
    load_s: float = 0.0
    """Seconds that its load took, by its own clock; 0: it does not say."""


class LoadFailed(Struct, frozen=True):
    """A worker cannot load its model: `why` in the engine's words, the last lines of its log."""

    now: float
    model: str
    pid: int
    why: str
    log: tuple[str, ...] = ()


class EngineDied(Struct, frozen=True):
    """A worker's engine is gone; its process is about to end."""

    now: float
    model: str
    pid: int
    why: str


class WorkerGone(Struct, frozen=True):
    """A worker's process has ended."""

    now: float
    model: str
    pid: int
    why: str
    log: tuple[str, ...] = ()


class WorkerAsleep(Struct, frozen=True):
    """A worker's engine sleeps; of the device it keeps `left` bytes."""

    now: float
    model: str
    pid: int
    level: int
    left: int


class SleepFailed(Struct, frozen=True):
    """A worker's engine was to sleep or to wake, and did not do it as it should: its process is about to end."""

    now: float
    model: str
    pid: int
    why: str


class AdapterReady(Struct, frozen=True):
    """A worker has this adapter: it has loaded it, or a new broker is told what is there."""

    now: float
    model: str
    pid: int


class AdapterFailed(Struct, frozen=True):
    """A worker cannot load this adapter: `why` in the engine's words. It serves on."""

    now: float
    model: str
    pid: int
    why: str


class AdapterGone(Struct, frozen=True):
    """A worker has forgotten this adapter."""

    now: float
    model: str
    pid: int


class RequestAdopted(Struct, frozen=True):
    """An earlier broker had accepted this request; a worker holds it, or it waits for one, or for its hooks."""

    now: float
    record: Record
    offset: int
    tokens: list[int]
    text: list[tuple[int, int, bytes]] = []
    """Where no worker holds it, what one had made from `offset` on: offset, size and message of each chunk."""


class RequestsMissed(Struct, frozen=True):
    """A worker has attached again and holds these requests; others that it was given did not reach it.

    Of those held it has not been told to begin those that are `waiting`.
    """

    now: float
    model: str
    pid: int
    held: frozenset[str]
    waiting: frozenset[str] = frozenset()


class RunEnded(Struct, frozen=True):
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


class PlaceFreed(Struct, frozen=True):
    """The engine is done with a request of which text still waits for its reader; tokens as in `RunEnded`."""

    now: float
    id: str
    prompt: int
    completion: int


class RunFailed(Struct, frozen=True):
    """The engine refused a request or failed at it."""

    now: float
    id: str
    code: str
    message: str
    hint: str
    fault: str
    at: str | None


OfWorkers = (
    NurseryAttached
    | NurseryLoading
    | NurseryFailed
    | WorkerForked
    | WorkerAttached
    | WorkerLoading
    | WorkerReady
    | LoadFailed
    | EngineDied
    | WorkerGone
    | WorkerAsleep
    | SleepFailed
    | AdapterReady
    | AdapterFailed
    | AdapterGone
    | RequestAdopted
    | RequestsMissed
    | RunEnded
    | PlaceFreed
    | RunFailed
)
