"""Ask a running daemon to leave with everything running, for the one that takes over (`ingled --replace`)."""

from pathlib import Path

from ingle.errors import IngleError, Unreachable
from ingle.line import Line


class WillNot(RuntimeError):
    """The running daemon does not hand over; the text says why."""


def ask_to_hand_over(path: Path) -> None:
    """Ask the daemon at `path`, if there is one, to leave with everything running. Raises WillNot."""
    try:
        with Line(str(path), name="ingled", returns=0) as line:
            line.call("shutdown", {"hand_over": True})
    except Unreachable as error:
        if error.reason not in ("absent", "refused"):
            raise WillNot(f"the daemon at {path} cannot be asked to hand over: {error}") from error
    except IngleError as error:
        raise WillNot(f"the daemon at {path} does not hand over: {error}") from error
