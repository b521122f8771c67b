"""Messages to the broker, of workers and of the nursery; `Attach` and `Alive` are of every peer. Pure."""

from typing import Any

from msgspec import Raw, Struct

from ingled.link.hosts import Setup
from ingled.link.models import Estimate, Gpu, Info, Spec

VERSION = 7
"""Of the private messages; a peer that speaks another is told to stop."""


class Held(Struct, frozen=True, forbid_unknown_fields=True):
    """A request that a worker runs, or has ended and not been told to release."""

    id: str
    op: str
    body: Raw
    stream: bool
    record: bytes
    """What `Run` gave: with the above all that a new broker needs to take the request over."""
    offset: int
    """Text below this offset has been acknowledged and is forgotten."""
    tokens: list[int]
    """Ids of the tokens of that text, and of those of an earlier worker; the rest come with their chunks."""
    waits: bool = False
    """It has not been told to begin it."""


class Attach(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="attach"):
    """First message of every peer, and the answer to `Who`.

    A worker lets follow, in the order in which they came, the chunks that are not acknowledged and the ends that are
    not released: whoever has them already knows them by offset and id.
    """

    secret: str
    role: str
    """`worker`, `nursery`, `host`, or `keeper` (of hosts)."""
    pid: int
    version: int = VERSION
    spec: Spec | None = None
    held: list[Held] = []
    setup: Setup | None = None
    """What a host runs, once it has been told."""
    devices: list[int] = []
    """Of a worker: those that it was started on."""


class Alive(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="alive"):
    """Sent every second by every peer, by hosts every quarter; an unknown sender is answered with `Who`."""


class Loading(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="loading"):
    """The worker loads: `phase` for people (`configuring`, `weights`, `warming`), percent 0..100."""

    phase: str
    percent: int = 0


class Woke(Struct, frozen=True, forbid_unknown_fields=True):
    """How an engine woke."""

    level: int
    seconds: float
    taken_bytes: int
    """What it has of the device now."""


class Ready(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="ready"):
    """The model can serve, again or for the first time."""

    info: Info
    woke: Woke | None = None
    """It has just woken, and its answers are those of before."""


class Asleep(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="asleep"):
    """The engine sleeps, and has given back what it should."""

    info: Info
    level: int
    left_bytes: int
    """What it keeps of the device."""
    freed_bytes: int
    seconds: float


class Room(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="room"):
    """How it is with the GPUs of a worker, in the order of its devices: sent when that has changed."""

    gpus: list[Gpu]


class SleepFailed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="sleep_failed"):
    """The engine did not sleep or wake as it should: the worker exits."""

    reason: str


class LoadFailed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="load_failed"):
    """The model cannot be loaded; the worker exits. `reason` is one line, the engine's own words."""

    reason: str
    log: list[str] = []
    """Last lines of the worker's log."""
    killed: bool = False
    """A process of the engine was ended by SIGKILL, and not by this worker."""


class Piece(Struct, frozen=True, array_like=True, gc=False):
    """One chunk: the request, offset and bytes of its text, its token ids, and the client's message, packed.

    At the end of an answer there may be one without text, for its last tokens, such as that of the end; where its
    client has asked for no details of them it has no message for it either.
    """

    id: str
    offset: int
    size: int
    tokens: list[int]
    payload: bytes


class Chunks(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="chunks"):
    """All that one turn of the worker's loop produced."""

    pieces: list[Piece]


class AdapterReady(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="adapter_ready"):
    """The worker has this adapter. Sent again after `Ready` when it attaches."""

    model: str


class AdapterFailed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="adapter_failed"):
    """This adapter cannot be loaded, for a reason in one line; the worker serves on."""

    model: str
    reason: str


class AdapterGone(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="adapter_gone"):
    """The worker has this adapter no longer."""

    model: str


class EngineDied(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="engine_died"):
    """The engine is gone or hangs: the worker exits, and its requests can go on elsewhere."""

    reason: str
    killed: bool = False
    """A process of the engine was ended by SIGKILL, and not by this worker."""


class Ended(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="ended"):
    """The engine is done with a request; its last chunk has been sent before."""

    id: str
    finish: str
    """`stop`, `length`, `repetition`, or `abort` after `Abort`."""
    prompt: int
    cached: int
    completion: int
    first_ms: float = 0.0
    stop: str | None = None
    result: dict[str, Any] | None = None
    vectors: bytes = b""
    """Of `embed`: the list of vectors as the client gets it, packed."""


class RunFailed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="run_failed"):
    """The engine refused a request or failed at it; `code` is one of `ingle.wire.schema.Code`."""

    id: str
    code: str
    message: str
    hint: str
    fault: str
    at: str | None = None


class Freed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="freed"):
    """The engine is done with a request whose reader has not taken all: its place is free. `Ended` follows later."""

    id: str
    prompt: int
    completion: int


class Stats(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="stats"):
    """How the engine does: sent every second while it has work, and once after."""

    running: int
    waiting: int
    kv_use: float
    """Part of the KV cache in use, 0..1."""
    prompt_tokens: int
    """Since the worker's start, as are the next two."""
    cached_tokens: int
    completion_tokens: int
    rss_bytes: int = 0
    """Resident memory of the worker's processes together."""
    taken_bytes: int = 0
    """What they alone have now: of the GPU, where the model is on one."""
    most_bytes: int = 0
    """The most that this has been since the model was ready."""
    full: bool = False
    """The largest batch has run meanwhile."""

    @property
    def work(self) -> tuple[int, int, int, int, int]:
        """Return what changes when it works."""
        return self.running, self.waiting, self.prompt_tokens, self.cached_tokens, self.completion_tokens


class Forked(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="forked"):
    """A worker has been forked."""

    model: str
    pid: int


class Exited(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="exited"):
    """A worker's front process has ended; what was left of its process group has been killed."""

    model: str
    pid: int
    status: str
    """For people: `exit status 1`, `killed by SIGKILL`."""
    log: list[str] = []


class Planned(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="planned"):
    """What a model would take; with `reason` the engine refuses its options."""

    ref: int
    reason: str | None = None
    estimate: Estimate | None = None
    """None too where the engine takes the options and the model cannot be planned; `note` says why."""
    note: str = ""
    gpus: list[Gpu] = []
    """Those that there are, in the engine's order; none on a CPU."""


class Family(Struct, frozen=True, forbid_unknown_fields=True):
    """A metric of an engine, as Prometheus knows it."""

    name: str
    kind: str
    """`counter`, `gauge`, `histogram` and so on."""
    help: str
    samples: list[tuple[str, dict[str, str], float]]
    """Name, labels and value of each."""


class Measured(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="measured"):
    """What the engine has counted, by its own names."""

    ref: int
    families: list[Family]


ToBroker = (
    Attach
    | EngineDied
    | Alive
    | Loading
    | Ready
    | Asleep
    | SleepFailed
    | Room
    | LoadFailed
    | AdapterReady
    | AdapterFailed
    | AdapterGone
    | Chunks
    | Ended
    | Freed
    | RunFailed
    | Stats
    | Forked
    | Exited
    | Planned
    | Measured
)
