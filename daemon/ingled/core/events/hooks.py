"""What hooks did: they came and went, and answered calls, or did not."""

from typing import Any

from ingle.wire.hook_schema import HookOffer, HookResult, Point
from msgspec import Struct

from ingled.core.accounts import Caller
from ingled.core.registry import Entry


class HookOffered(Struct, frozen=True):
    """A client wants to take part in requests."""

    now: float
    caller: Caller
    client: str
    offer: HookOffer


class HookWithdrawn(Struct, frozen=True):
    """A client takes part no more."""

    now: float
    caller: Caller
    ref: int
    name: str


class PluginsOffered(Struct, frozen=True):
    """A host of plugins has loaded them; those that cannot run are `broken`."""

    now: float
    provider: str
    entries: tuple[Entry, ...]


class PluginsAwaited(Struct, frozen=True):
    """There is a host of plugins, or will be, and what it runs is not known yet."""

    now: float
    provider: str


class HookReplied(Struct, frozen=True):
    """Hooks have answered a call for a request."""

    now: float
    id: str
    point: Point
    results: tuple[HookResult, ...]
    value: dict[str, Any] | None


class HookFailed(Struct, frozen=True):
    """Hooks have not answered: `blamed` were at work, all of the call where none is named."""

    now: float
    id: str
    point: Point
    blamed: tuple[str, ...]
    why: str


class HookAgain(Struct, frozen=True):
    """The hooks that were called have lost their host through no fault of this call: it is made again."""

    now: float
    id: str
    point: Point


class Observed(Struct, frozen=True):
    """Hooks of a provider have been told of what they observe."""

    now: float
    provider: str
    point: Point
    results: tuple[HookResult, ...]


class ObserverFailed(Struct, frozen=True):
    """Hooks of a provider could not be told of what they observe, or not in time."""

    now: float
    provider: str
    point: Point
    hooks: tuple[str, ...]
    why: str


class StationsEnded(Struct, frozen=True):
    """All text of a request has passed its chunk handlers: this is it."""

    now: float
    id: str
    text: str


class StationStopped(Struct, frozen=True):
    """A chunk handler wants no more of an answer."""

    now: float
    id: str
    hook: str
    why: str


class StationFailed(Struct, frozen=True):
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
    | StationsEnded
    | StationStopped
    | StationFailed
)
