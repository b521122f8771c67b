"""How an error ends the command: what it prints, and its exit status."""

import os

from ingle.cli.grammar import Usage
from ingle.cli.output import CannotWrite, ReaderLeft, note, print_json, visible
from ingle.errors import DaemonFailed, IngleError, Refused, Unreachable
from ingle.wire.codec import Message

EXITS = (
    (0, "All is well."),
    (1, "Something broke on the daemon's side, it is too busy, or the output cannot be written."),
    (2, "The command line is wrong, or names a file that cannot be read."),
    (3, "No daemon answers at the socket."),
    (4, "The daemon refused the request: a bad value, no such model, a prompt that is too long, ..."),
    (130, "Interrupted with Ctrl-C; a request that ran for this command was cancelled."),
    (141, "Whoever read the output left before its end; a request that ran for this command was cancelled."),
)
"""Exit statuses of every verb that asks the daemon."""

ALONE = (
    EXITS[0],
    (1, "The output cannot be written."),
    EXITS[2],
    (130, "Interrupted with Ctrl-C."),
    (141, "Whoever read the output left before its end."),
)
"""Exit statuses of those that need none."""

ELSEWHERE = (
    (5, "`ingle plan`: it does not fit. `ingle doctor`: something is broken."),
    (78, "`ingle config check`: something is wrong."),
    (143, "`ingle hook` was terminated; 129 when its terminal was closed."),
)
"""Exit statuses that only some verbs have."""

OF_A_VERB = "args."
"""How the path of a field begins that is an argument of a verb."""
PAGE = "see docs/protocol.md"

FAILURES = """
With --json a verb that fails prints one line on standard output, behind what it has already printed: the
daemon's `failed` message as an object, with `t`, `code`, `message`, `hint` and `fault`, and where there are any
`at`, `id`, `ref` and `retry_after_ms`, as in docs/protocol.md. What goes wrong without the daemon is told in
the same form; two codes are the command's own:

    unreachable   no daemon answers (exit status 3); `reason` says why
    usage         the command line is wrong (exit status 2)

The line for people still goes to standard error. An interrupted command prints nothing.
"""


def report(error: Exception, *, json: bool = False) -> int:
    """Print an error with its hint, and with `json` also for programs; returns the exit status that it means."""
    if isinstance(error, ReaderLeft):
        return 141
    status, text, failed = _understood(error)
    if json and not isinstance(error, CannotWrite):
        try:  # noqa: SIM105  (contextlib takes 3 ms to import)
            print_json(failed, line=True)
        except CannotWrite:  # people are told at least what went wrong first
            pass
    ours = (failed.get("at") or "").startswith(OF_A_VERB)  # the message is of our making: nobody has to look it up
    say(text, "" if ours and failed["hint"] == PAGE else failed["hint"])
    return status


def say(message: str, hint: str) -> None:
    """Print a message for a person on standard error."""
    said = f"ingle: {message}\n" + (f"hint: {hint}\n" if hint else "")
    note(visible(said, lines=True))


def _understood(error: Exception) -> tuple[int, str, Message]:
    """Return the exit status of an error, what people are told, and the `failed` message that programs get."""
    text = str(error)
    match error:
        case Usage():
            return 2, text, _failed("usage", text, error.hint)
        case Unreachable():
            return 3, text, _failed("unreachable", text, error.hint, fault="daemon") | {"reason": error.reason}
        case Refused() | DaemonFailed():
            failed = _failed(error.code, text, error.hint, fault=error.fault)
            more = {key: value for key in ("at", "id", "retry_after_ms") if (value := getattr(error, key)) is not None}
            refused = isinstance(error, Refused)
            told = _in_options(text, error.at) if refused and error.at else text
            return 4 if refused else 1, told, failed | more | (error.failed or {})
        case IngleError():
            return 1, text, _failed("internal", text, error.hint, fault="daemon") | (error.failed or {})
        case CannotWrite():
            text = f"cannot write: {text}"
            return 1, text, _failed("internal", text)
        case OSError():
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or text
            return (2, text, _failed("usage", text)) if error.filename else (1, text, _failed("internal", text))
        case _:
            if os.environ.get("INGLE_DEBUG"):
                raise error
            text = f"this is a bug of ingle: {error!r}"
            return 1, text, _failed("internal", text, "set INGLE_DEBUG=1 for a traceback, and report it")


def _in_options(text: str, at: str) -> str:
    """Return what people are told of a field that is wrong: the argument of a verb is an option to them."""
    if at.startswith(OF_A_VERB):
        return text.replace(at, f"--{at.removeprefix(OF_A_VERB).replace('_', '-')}", 1)
    return text if at == "op" or at in text else f"{text} (at {at})"


def _failed(code: str, message: str, hint: str = "", *, fault: str = "client") -> Message:
    return {"t": "failed", "code": code, "message": message, "hint": hint, "fault": fault}
