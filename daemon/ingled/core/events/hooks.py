"""What hooks did: they came and went, and answered calls, or did not."""

from dataclasses import dataclass
from typing import Any

from ingle.wire.hook_schema import HookOffer, HookResult, Point

from ingled.core.accounts import Caller
from ingled.core.registry import Entry


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
class HookAgain:
    """The hooks that were called have lost their host through no fault of this call: it is made again."""

    now: float
    id: str
    point: Point


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


OfHooks = (
    HookOffered
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
)
