"""`ingle attach`: read the answer of a request that was started elsewhere."""

from ingle.cli.follow import Follower
from ingle.cli.grammar import Given, Option, Verb
from ingle.line import Line


def run(given: Given) -> int:
    """Print the rest of an answer."""
    with Line(given.value("socket")) as line:
        offset = given.value("offset")
        ref = line.attach(given.words[0], offset)
        json, verbose = given.switch("json"), given.switch("verbose")
        return Follower(json=json, stream=True, verbose=verbose, wherever=offset is None).follow(line, ref)


VERB = Verb(
    "attach",
    run,
    """
    Takes over the stream of request ID of the same account and prints its answer: as much of it as the daemon
    still has, or from an offset on. What somebody else has read of a request without --detach is no longer
    held; a line on standard error says so. Ctrl-C leaves; a request that was started with `ingle ask --detach`
    goes on, and can be attached to again.
    """,
    "ID",
    least=1,
    most=1,
    options=(
        Option(("--offset",), "Begin at this offset, in UTF-8 bytes; 0 is the very beginning.", "N", int),
        Option(("-v", "--verbose"), "Print reasoning, tokens, times and hooks on standard error."),
        Option(("--json",), "Print the daemon's messages as JSON lines."),
    ),
    examples=(("ingle attach $(ingle ask --detach write a long story)", "Starts a request, then reads it."),),
)
