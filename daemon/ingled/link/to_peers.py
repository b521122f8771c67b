"""Messages of the broker, to workers and the nursery; `Who`, `Lease` and `Stop` are for every peer. Pure."""

from typing import Any

from msgspec import Raw, Struct

from ingled.link.models import Spec
from ingled.link.to_broker import Piece


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


class Measure(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="measure"):
    """Worker: say what the engine has counted."""

    ref: int


class Sleep(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="sleep"):
    """Let the engine sleep at a level of vLLM's. The answer is `Asleep`, or `SleepFailed`."""

    level: int


class Wake(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="wake"):
    """Let the engine wake. The answer is `Ready`, or `SleepFailed`."""


class Check(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="check"):
    """See that the engine answers a fixed prompt as before. The answer is `Ready`, or `EngineDied`."""


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
    fill: bool = False
    """It is to run its largest batch once before it serves: what that takes has not been measured yet."""


class Kill(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="kill"):
    """Nursery or keeper: end the process group of this worker or host."""

    pid: int


class Plan(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="plan"):
    """Nursery: say whether the engine takes these options, and what the model would take, without loading it."""

    ref: int
    spec: Spec


class Stop(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="stop"):
    """Leave in an orderly way."""


ToPeers = (
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
    | Check
    | AddAdapter
    | DropAdapter
    | Start
    | Kill
    | Plan
    | Stop
)
