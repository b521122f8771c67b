"""Verbs about models: which there are, and which are to be resident (docs/protocol.md, section 6)."""

from typing import TYPE_CHECKING, Annotated

from ingle.wire.schema import Result
from msgspec import Meta, Struct

from ingled.broker.described import describe
from ingled.broker.front import Connection
from ingled.broker.reading import Nothing
from ingled.core import events as on
from ingled.core.accounts import visible
from ingled.core.residency import State
from ingled.link import worker_log
from ingled.log_end import tail

if TYPE_CHECKING:
    from ingled.broker.shell import Shell


class OneModel(Struct, frozen=True, forbid_unknown_fields=True):
    """A verb about one model."""

    model: str


class LoadArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `load`."""

    model: str
    wait: bool = True


class UnloadArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `unload`."""

    model: str
    force: bool = False
    wait: bool = True


class SleepArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `sleep`; without a level, the lightest for which there is memory."""

    model: str
    level: Annotated[int, Meta(ge=1, le=2)] | None = None


class WakeArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `wake`."""

    model: str
    wait: bool = True


class PinArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `pin`; `pinned` is False to unpin."""

    model: str
    pinned: bool = True


class WantArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `want`."""

    model: str
    within_ms: Annotated[int, Meta(ge=0)] = 5000


class YieldArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `yield`."""

    bytes: Annotated[int, Meta(ge=1)] | None = None


def models(shell: "Shell", connection: Connection, ref: int, args: Nothing) -> None:
    """Tell of all models that this caller may ask."""
    models, rights = shell.control.models, connection.rights
    found = [describe(shell, models[name], rights) for name in visible(models, rights)]
    shell.front.send(connection.number, Result(ref, {"models": found}))


def show(shell: "Shell", connection: Connection, ref: int, args: OneModel) -> None:
    """Tell everything that is known of one model."""
    name = shell.usable(connection, ref, args.model)
    if name is None:
        return
    model = shell.control.models[name]
    spec, adapter = shell.specs[model.adapts or name], shell.adapters.get(name)
    rights = connection.rights
    inside = "load" in rights.may
    log = list(model.log or tail(worker_log(shell.config.runtime, name))) if inside else []
    extra = {
        "options": spec.options if inside else None,
        "sampling": adapter.sampling if adapter else spec.sampling,
        "log": log,
        "story": [shell.control.names.blot(line, rights) for line in model.story.lines(shell.loop.time())],
    }
    shell.front.send(connection.number, Result(ref, describe(shell, model, rights) | extra))


def load(shell: "Shell", connection: Connection, ref: int, args: LoadArgs) -> None:
    """Make a model resident."""
    shell.dispatch(on.LoadAsked(shell.loop.time(), connection.caller, ref, args.model, args.wait))


def unload(shell: "Shell", connection: Connection, ref: int, args: UnloadArgs) -> None:
    """Have a model give its memory back."""
    shell.dispatch(on.UnloadAsked(shell.loop.time(), connection.caller, ref, args.model, args.force, args.wait))


def sleep(shell: "Shell", connection: Connection, ref: int, args: SleepArgs) -> None:
    """Have a model give back most of its memory and stay there."""
    shell.dispatch(on.SleepAsked(shell.loop.time(), connection.caller, ref, args.model, args.level))


def wake(shell: "Shell", connection: Connection, ref: int, args: WakeArgs) -> None:
    """Make a model ready that sleeps."""
    name = shell.usable(connection, ref, args.model)
    if name is None:
        return
    state = shell.control.models[name].state
    if state in (State.COLD, State.FAILED, State.STOPPING):
        text = f"model '{name}' is {state.value}: there is nothing to wake"
        shell.front.fail(connection.number, ref, "conflict", text, f"`ingle load {name}` loads it")
        return
    shell.dispatch(on.LoadAsked(shell.loop.time(), connection.caller, ref, name, args.wait))


def pin(shell: "Shell", connection: Connection, ref: int, args: PinArgs) -> None:
    """Keep a model from being put out for others, or do so no more."""
    shell.dispatch(on.PinAsked(shell.loop.time(), connection.caller, ref, args.model, args.pinned))


def want(shell: "Shell", connection: Connection, ref: int, args: WantArgs) -> None:
    """Take the hint that a model will be asked soon."""
    shell.dispatch(on.WantAsked(shell.loop.time(), connection.caller, ref, args.model, args.within_ms / 1000))


def yield_memory(shell: "Shell", connection: Connection, ref: int, args: YieldArgs) -> None:
    """Have idle models give memory back."""
    shell.dispatch(on.YieldAsked(shell.loop.time(), connection.caller, ref, args.bytes))
