"""What changed for the daemon as a whole: memory, time, its configuration, its end."""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

from ingled.core.ladder import Sleep
from ingled.core.placement import Device

if TYPE_CHECKING:
    from ingled.core.desk import Limits
    from ingled.core.pipeline import Rule
    from ingled.core.residency import Model
from msgspec import Struct


class DeviceSeen(Struct, frozen=True):
    """There is more or less memory for models than there was."""

    now: float
    device: Device
    index: int = 0
    """Which of them, where there are several."""


class HostSeen(Struct, frozen=True):
    """So many bytes of the machine's memory are free for weights of models that sleep."""

    now: float
    free: int


class MemoryShort(Struct, frozen=True):
    """Others are left so many bytes less than they should be, for a while now; `host`: not where models are, but of the
    machine beside.
    """

    now: float
    bytes: int
    host: bool = False
    device: int | None = None
    """Index of the device of which they are; None: all are one memory."""


class NeedSeen(Struct, frozen=True):
    """It is known, or known better, what a model takes, and how long it loads (None: it never did)."""

    now: float
    model: str
    need: int
    load_s: float | None


class SleepSeen(Struct, frozen=True):
    """It is known, or known better, how a model sleeps."""

    now: float
    model: str
    sleep: Sleep


class Survival(Enum):
    """What becomes of the memory in which models are while the machine is suspended."""

    STAYS = "stays"
    """It is RAM."""
    SAVED = "is saved by the driver"
    LOST = "is lost"


class SuspendBegins(Struct, frozen=True):
    """The machine is about to be suspended, in so many seconds at the latest."""

    now: float
    memory: Survival
    within_s: float


class SuspendEnds(Struct, frozen=True):
    """The machine is back, or will not be suspended after all."""

    now: float


class TimerFired(Struct, frozen=True):
    """A timer that the core had set has run out."""

    now: float
    key: tuple[str, str]


class ModelsChanged(Struct, frozen=True):
    """The configuration has other models: these are new or have changed, and all of `names` are there from now on."""

    now: float
    models: tuple["Model", ...]
    names: Mapping[str, tuple[str, ...]]
    """The aliases of each."""
    default: str


class SettingsChanged(Struct, frozen=True):
    """The configuration was read anew: bounds, and the rules for hooks that clients offer from now on."""

    now: float
    limits: "Limits"
    hooks: "Mapping[str, Rule]"
    patience_s: float
    memory_wait_s: float


class DrainAsked(Struct, frozen=True):
    """The daemon is to stop: new requests are refused, running ones go on."""

    now: float


class DrainExpired(Struct, frozen=True):
    """The daemon stops now: what still runs is ended."""

    now: float


OfDaemon = (
    DeviceSeen
    | HostSeen
    | MemoryShort
    | NeedSeen
    | SleepSeen
    | SuspendBegins
    | SuspendEnds
    | TimerFired
    | ModelsChanged
    | SettingsChanged
    | DrainAsked
    | DrainExpired
)
