"""`ingle unpin`: let a model be put out for others again."""

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.pin import change


def run(given: Given) -> int:
    """Unpin the model."""
    return change(given, pinned=False)


VERB = Verb(
    "unpin",
    run,
    """
    MODEL, if it is idle, may be put out from now on when another needs its memory, and expires as the
    configuration says.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(JSON,),
    examples=(("ingle unpin coder", "It may go when others need the memory."),),
)
