"""What a client may ask of the daemon itself: every verb, its arguments, and the right that it takes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ingle.wire.schema import Call, Failed
from msgspec import Struct

from ingled.broker import daemon_verbs, hook_verbs, model_verbs
from ingled.broker.checkup import doctor
from ingled.broker.front import Connection
from ingled.broker.planning import PlanArgs, plan
from ingled.broker.reading import Nothing, read_args
from ingled.core.accounts import Right, lacking

if TYPE_CHECKING:
    from ingled.broker.shell import Shell

Verb = Callable[["Shell", Connection, int, Any], None]


def answer(shell: "Shell", connection: Connection, call: Call) -> None:
    """Carry out a call, or refuse it."""
    found = VERBS.get(call.verb)
    if found is None:
        known = ", ".join(VERBS)
        code = "unsupported" if call.verb in RESERVED else "bad_value"
        text = f"verb is '{call.verb[:64]}': this daemon has {known}"
        shell.front.fail(connection.number, call.ref, code, text, at="verb")  # type: ignore[arg-type]
        return
    kind, right, verb = found
    if right is not None and right not in connection.rights.may:
        text, hint = lacking(right, connection.account, f"'{call.verb}'")
        shell.front.fail(connection.number, call.ref, "not_allowed", text, hint, at="verb")
        return
    args = read_args(call.ref, call.args, kind)
    if isinstance(args, Failed):
        shell.front.send(connection.number, args)
    else:
        verb(shell, connection, call.ref, args)


VERBS: dict[str, tuple[type[Struct], Right | None, Verb]] = {
    "status": (Nothing, None, daemon_verbs.status),
    "whoami": (Nothing, None, daemon_verbs.whoami),
    "models": (Nothing, None, model_verbs.models),
    "show": (model_verbs.OneModel, None, model_verbs.show),
    "requests": (daemon_verbs.RequestsArgs, None, daemon_verbs.requests),
    "plan": (PlanArgs, None, plan),
    "doctor": (Nothing, "load", doctor),
    "load": (model_verbs.LoadArgs, "load", model_verbs.load),
    "unload": (model_verbs.UnloadArgs, "load", model_verbs.unload),
    "sleep": (model_verbs.SleepArgs, "load", model_verbs.sleep),
    "wake": (model_verbs.WakeArgs, "load", model_verbs.wake),
    "pin": (model_verbs.PinArgs, "load", model_verbs.pin),
    "want": (model_verbs.WantArgs, None, model_verbs.want),
    "yield": (model_verbs.YieldArgs, "load", model_verbs.yield_memory),
    "hooks": (Nothing, None, hook_verbs.hooks),
    "hook_test": (hook_verbs.HookTestArgs, None, hook_verbs.hook_test),
    "reload": (Nothing, "shutdown", daemon_verbs.reload),
    "config": (Nothing, "shutdown", daemon_verbs.config),
    "shutdown": (daemon_verbs.ShutdownArgs, "shutdown", daemon_verbs.shutdown),
}
"""Verb -> arguments, the right that it takes, function."""

RESERVED = frozenset({"pull", "usage", "verify"})
"""Verbs that later versions of the protocol will have."""
