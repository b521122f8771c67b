"""What the daemon can be asked of itself: each verb with its arguments on the wire, and what its answer says. Pure.

The blocking and the asyncio client differ in how one waits for an answer, and say the rest here.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from ingle.results import Model, Progress, RequestInfo, Status, Who, read
from ingle.wire.codec import Message

T = TypeVar("T")


class Verb(NamedTuple, Generic[T]):
    """One question."""

    name: str
    args: dict[str, Any]
    take: Callable[[Any], T]
    """Makes of the answer what the caller gets."""
    forever: bool = False
    """It may take as long as it takes."""


def hearing(on_progress: Callable[[Progress], None] | None) -> Callable[[Message], None] | None:
    """Return what hears `progress` as it comes for a caller who wants to."""
    return None if on_progress is None else lambda message: on_progress(read(message, Progress))


def models() -> Verb[list[Model]]:
    """Every model that the daemon knows."""
    return Verb("models", {}, lambda value: read(value["models"], list[Model]))


def show(model: str) -> Verb[Model]:
    """All about one model."""
    return Verb("show", {"model": model}, lambda value: read(value, Model))


def status() -> Verb[Status]:
    """How the daemon is."""
    return Verb("status", {}, lambda value: read(value, Status))


def whoami() -> Verb[Who]:
    """Which account asks, and what it may do."""
    return Verb("whoami", {}, lambda value: read(value, Who))


def requests(all: bool) -> Verb[list[RequestInfo]]:
    """Requests that run or are kept, of this account or of all."""
    return Verb("requests", {"all": True} if all else {}, lambda value: read(value["requests"], list[RequestInfo]))


def load(model: str, wait: bool) -> Verb[str]:
    """Make a model ready; the answer is its state."""
    return Verb("load", {"model": model, "wait": wait}, _state, forever=wait)


def unload(model: str, force: bool, wait: bool) -> Verb[str]:
    """Free a model's memory; the answer is its state."""
    return Verb("unload", {"model": model, "force": force, "wait": wait}, _state, forever=wait)


def sleep(model: str, level: int | None) -> Verb[int]:
    """Have a model sleep; the answer is its level."""
    args: dict[str, Any] = {"model": model}
    return Verb(
        "sleep", args | ({} if level is None else {"level": level}), lambda value: int(value["level"]), forever=True
    )


def wake(model: str, wait: bool) -> Verb[str]:
    """Wake a model; the answer is its state."""
    return Verb("wake", {"model": model, "wait": wait}, _state, forever=wait)


def pin(model: str, pinned: bool) -> Verb[None]:
    """Keep a model from being put out for others, or no longer."""
    return Verb("pin", {"model": model, "pinned": pinned}, lambda value: None)


def want(model: str, within: float) -> Verb[dict[str, Any]]:
    """Say that a model will be asked in so many seconds."""
    return Verb("want", {"model": model, "within_ms": round(within * 1000)}, dict)


def give_back(bytes: int | None) -> Verb[list[str]]:
    """Have idle models give memory back; the answer is which."""
    return Verb("yield", {"bytes": bytes} if bytes else {}, lambda value: list(value["models"]))


def _state(value: Any) -> str:
    return str(value["state"])
