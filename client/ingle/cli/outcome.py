"""How an error ends the command: what it prints, and its exit status."""

import os
import sys

from ingle.cli.grammar import Usage
from ingle.errors import IngleError, Refused, Unreachable

EXITS = (
    (0, "All is well."),
    (1, "Something broke on the daemon's side, or it is too busy."),
    (2, "The command line is wrong."),
    (3, "No daemon answers at the socket."),
    (4, "The daemon refused the request: a bad value, no such model, a prompt that is too long, ..."),
    (130, "Interrupted with Ctrl-C; what ran for this command was cancelled."),
    (141, "Whoever read the output left before its end; what ran for this command was cancelled."),
)
"""Exit statuses of every verb."""


def report(error: Exception) -> int:
    """Print an error with its hint and return the exit status that it means."""
    match error:
        case Usage():
            say(str(error), error.hint)
            return 2
        case Unreachable():
            say(str(error), error.hint)
            return 3
        case Refused():
            say(f"{error} (at {error.at})" if error.at else str(error), error.hint)
            return 4
        case IngleError():
            say(str(error), error.hint)
            return 1
        case OSError():
            say(f"{error.filename}: {error.strerror}" if error.filename else str(error), "")
            return 2
        case _:
            if os.environ.get("INGLE_DEBUG"):
                raise error
            say(f"this is a bug of ingle: {error!r}", "set INGLE_DEBUG=1 for a traceback, and report it")
            return 1


def say(message: str, hint: str) -> None:
    """Print a message for a person on standard error."""
    sys.stderr.write(f"ingle: {message}\n" + (f"hint: {hint}\n" if hint else ""))
