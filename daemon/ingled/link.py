"""Messages of the private socket: broker on one side, nursery, workers and hook hosts on the other. Pure.

May change in any release; both ends always come from one installation. One message = one frame, MessagePack of a
tagged struct. The peer is the broker's own uid and proves itself with the start-up secret of the runtime folder.
"""

import hashlib
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from ingle.wire.hook_schema import HookCall, HookOffer, HookReply, OnError, Select
from msgspec import Raw, Struct

VERSION = 3
"""Of these messages; a peer that speaks another is told to stop."""

SECRET_FILE = "link.secret"
"""File of the runtime folder (mode 0600) with the start-up secret, in hex."""

WAITING_FILE = "waiting"
"""Requests that no worker holds yet, or a link to it: `broker/waiting_room.py`."""

LOCK_FILE = "ingled.lock"
"""Held by the broker for as long as it lives."""

NURSERY_FILE = "nursery.pid"
"""Process id of the nursery, for the next broker."""

HOST_SLOTS = 64
"""Threads of a hook host."""

HOST_SLOT = struct.Struct("<QII")
"""What one of them is at, in the file `host_table`: number of the call, index of the hook, id of the thread."""

SOCKET_FILE = "link.sock"
"""The private socket, in the runtime folder (mode 0600)."""


def host_table(runtime: Path, pid: int) -> Path:
    """Return the file in which a hook host notes what each of its threads is at, for when it dies or hangs.

    `HOST_SLOTS` slots of 16 bytes, little-endian: the number of the call (8 bytes; 0: idle), the index of the hook
    within it (4), and the thread's id (4).
    """
    return runtime / "hosts" / f"{pid}.at"


def worker_log(runtime: Path, model: str) -> Path:
    """Return the log file of a model's worker; models whose names differ only in odd characters do not share one."""
    plain = re.sub("[^A-Za-z0-9._-]", "_", model)[:80]
    mark = "" if plain == model else f"-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return runtime / "logs" / f"worker-{plain}{mark}.log"


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """Load spec: what a worker runs, fixed at its start."""

    model: str
    engine: str
    """`vllm` or `echo`."""
    source: str
    """Folder of the weights."""
    options: dict[str, Any] = {}
    """Fields of vLLM's `AsyncEngineArgs`."""
    sampling: dict[str, Any] = {}
    """Sampling defaults under the names of `ingle.wire.schema.Sampling`."""
    concurrency: int | None = None
    """Answers of full length for which the KV cache has room, where no size in bytes is given."""
    echo: dict[str, Any] = {}
    """Options of the echo engine."""
    front: str = "auto"
    """How the worker asks vLLM: `core`, `async`, or `auto`."""
    adapters: dict[str, str] = {}
    """Folders of the adapters that it may be told to load, by the names of their models."""


class Estimate(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model will take in all, said before it is loaded; in bytes, over all of its devices."""

    weights: int = 0
    """As they are loaded, with the copies that the engine makes of them."""
    kv_cache: int = 0
    activations: int = 0
    """What the largest batch takes while it is computed, and graphs."""
    process: int = 0
    """The worker itself: interpreter, tokenizer, context of the device."""
    token_bytes: int = 0
    """What a token takes in the KV cache."""
    context: int = 0
    """Longest prompt plus answer, in tokens, of the options."""
    answers: float = 0.0
    """How many answers of that length the KV cache holds."""
    longest: int = 0
    """Longest context, up to that of the options, of which the KV cache holds one answer."""
    dtype: str = ""
    architecture: str = ""
    devices: int = 1
    """Over how many it is spread, evenly."""


class Gpu(Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU, and its memory in bytes as the driver tells it."""

    name: str
    total: int
    free: int
    driver: str = ""


class Info(Struct, frozen=True, forbid_unknown_fields=True):
    """What a ready worker knows of its model."""

    engine: str
    """Name and version, such as `vllm 0.32.0`."""
    context: int
    """Longest prompt plus answer, in tokens."""
    kv_tokens: int = 0
    """Size of the KV cache, in tokens; 0 when there is none."""
    kv_bytes: int = 0
    weights_bytes: int = 0
    max_running: int = 0
    """Most requests in one batch; 0: not known, or the worker does not say when a place is free."""
    device: str = "cpu"
    load_s: float = 0.0
    """Seconds from fork to ready."""
    taken_bytes: int = 0
    """Memory that the worker's processes alone have, once it is ready: of the GPU, where it is on one."""
    no_sleep: str = "its engine has no sleep"
    """Why it cannot sleep; empty when it can."""
    device_weights: int = 0
    """Bytes of its weights on the device, where that has a memory of its own."""


# ---------------------------------------------------------------- worker -> broker


class Choice(Struct, frozen=True, forbid_unknown_fields=True):
    """A plugin that the configuration names: None leaves the plugin's own default."""

    enabled: bool = True
    order: int | None = None
    deadline_ms: int | None = None
    on_error: OnError | None = None
    trial: bool = False
    select: Select = Select()
    options: dict[str, Any] = {}
    security: bool | None = None


class Setup(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="setup"):
    """Host: run these plugins. The answer is `Offers`."""

    plugins: dict[str, Choice]
    """By name; of those that are installed but not named here none runs. Files of the folder run unless disabled."""
    folder: str | None = None
    """Drop-in folder."""
    only: list[str] | None = None
    """Run of these plugins no others."""
    without: list[str] = []
    """Plugins that run in a host of their own."""
    memory: int = 1 << 30
    """Most bytes of memory that the host may have."""


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
    """`worker`, `nursery` or `host`."""
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
    """How it is with the GPU of a worker: sent when that has changed."""

    gpu: Gpu


class SleepFailed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="sleep_failed"):
    """The engine did not sleep or wake as it should: the worker exits."""

    reason: str


class LoadFailed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="load_failed"):
    """The model cannot be loaded; the worker exits. `reason` is one line, the engine's own words."""

    reason: str
    log: list[str] = []
    """Last lines of the worker's log."""


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
    """The most that they alone have had, since the model was ready."""

    @property
    def work(self) -> tuple[int, int, int, int, int]:
        """Return what changes when it works."""
        return self.running, self.waiting, self.prompt_tokens, self.cached_tokens, self.completion_tokens


# ---------------------------------------------------------------- nursery -> broker


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


# ---------------------------------------------------------------- hook host -> broker


class Plugin(Struct, frozen=True, forbid_unknown_fields=True):
    """A plugin that a host was to run: what it offers, or the problem for which it cannot."""

    name: str
    version: str = "0"
    source: str = ""
    """`entry point MODULE`, or the path of a drop-in file."""
    offer: HookOffer | None = None
    """With `ref` 0; name, order, policy and selection as the configuration has them."""
    problem: str = ""
    """In one line: file, line and reason."""
    digest: str = ""
    """Of its module's file: another one, another plugin."""


class Offers(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="offers"):
    """All plugins of this host; it takes calls from now on. Sent again after an attach."""

    plugins: list[Plugin]


class HookReplies(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_replies"):
    """Answers to calls, those of one moment together."""

    replies: list[HookReply]


class Stale(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="stale"):
    """The drop-in folder has changed: a fresh host would run something else."""


# ---------------------------------------------------------------- broker -> hook host


class HookCalls(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="hook_calls"):
    """Calls for hooks of this host, and streams that are over."""

    calls: list[HookCall] = []
    ended: list[str] = []


# ---------------------------------------------------------------- broker -> worker, nursery


class Who(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="who"):
    """The broker does not know the sender: attach (again)."""


class Lease(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="lease"):
    """The broker lives; without one for `grace` seconds the peer exits. Answer to `Attach` and `Alive`."""

    grace: float
    stuck: float = 60.0
    """Seconds after which an engine that answers nothing is dead."""
    metrics: bool = False
    """Workers: have the engine count for Prometheus."""


class Run(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="run"):
    """Run a request. `body` is packed, one of `ingle.wire.schema.BODIES`."""

    id: str
    op: str
    body: Raw
    stream: bool
    credit: int
    salt: str
    """Prefix-cache salt of the account."""
    record: bytes = b""
    """For a broker that takes over; the worker only holds it."""
    priority: int = 0
    tokens: list[int] = []
    """Tokens that an earlier engine produced: the answer goes on behind them."""
    offset: int = 0
    """Bytes of the answer's text that the broker has, of those tokens."""
    held: list[Piece] = []
    """The last of that text, not acknowledged by its reader: the worker holds it for a broker that takes over."""
    waits: bool = False
    """Only hold it, until `Begin`."""
    adapter: str = ""
    """The model of the adapter that it is for, which has been added."""


class Begin(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="begin"):
    """Run a request that came with `waits`. One that runs already, or is not held, is left alone."""

    id: str
    priority: int


class Credit(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="credit"):
    """By request: so many more chunks may be sent, and text up to this offset may be forgotten."""

    grants: dict[str, tuple[int, int]]


class Abort(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="abort"):
    """End these requests now and release them; each is answered by `Ended`, unknown ones are ignored."""

    ids: list[str]


class Release(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="release"):
    """The ends of these requests have been delivered: forget them. Unknown ones are ignored."""

    ids: list[str]


class AddAdapter(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="add_adapter"):
    """Load an adapter, one that is there already anew; answered by `AdapterReady` or `AdapterFailed`."""

    model: str
    path: str
    """Folder of its weights."""
    sampling: dict[str, Any] = {}
    """Its sampling defaults, as in `Spec`."""


class DropAdapter(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="drop_adapter"):
    """Forget an adapter; answered by `AdapterGone`, also when it is not there."""

    model: str


class Start(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="start"):
    """Nursery: fork a worker."""

    spec: Spec
    devices: tuple[int, ...] = (0,)
    """Indices of the devices that it is to be on."""
    visible: bool = False
    """It sees no others: they are GPUs, by their numbers among those that the nursery sees."""


class Measure(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="measure"):
    """Worker: say what the engine has counted."""

    ref: int


class Kill(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="kill"):
    """Nursery: end the process group of this worker."""

    pid: int


class Plan(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="plan"):
    """Nursery: say whether the engine takes these options, and what the model would take, without loading it."""

    ref: int
    spec: Spec


class Sleep(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="sleep"):
    """Let the engine sleep at a level of vLLM's. The answer is `Asleep`, or `SleepFailed`."""

    level: int


class Wake(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="wake"):
    """Let the engine wake. The answer is `Ready`, or `SleepFailed`."""


class Stop(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="stop"):
    """Leave in an orderly way."""


FromPeer = (
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
    | Offers
    | HookReplies
    | Stale
)
ToPeer = (
    Who
    | Lease
    | Run
    | Begin
    | Credit
    | Abort
    | Release
    | Measure
    | Sleep
    | Wake
    | AddAdapter
    | DropAdapter
    | Start
    | Kill
    | Plan
    | Stop
    | Setup
    | HookCalls
)

_encode = msgspec.msgpack.Encoder().encode
_from_peer = msgspec.msgpack.Decoder(FromPeer)
_to_peer = msgspec.msgpack.Decoder(ToPeer)


def encode(message: FromPeer | ToPeer) -> bytes:
    """Return the bytes of a private message."""
    return _encode(message)


def decode_from_peer(data: bytes | memoryview) -> FromPeer:
    """Read what a worker or nursery sent. Raises ValueError."""
    message: FromPeer = _from_peer.decode(data)
    return message


def decode_to_peer(data: bytes | memoryview) -> ToPeer:
    """Read what the broker sent. Raises ValueError."""
    message: ToPeer = _to_peer.decode(data)
    return message


def pack_body(body: Mapping[str, Any]) -> Raw:
    """Return a body as it travels in `Run`."""
    return Raw(_encode(body))
