"""`ingle wake`: wake a model that sleeps."""

from ingle.cli.grammar import JSON, Verb
from ingle.cli.load import NO_WAIT, PROGRESS, bring

VERB = Verb(
    "wake",
    lambda given: bring("wake", given),
    """
    Wakes MODEL and returns when it is ready to answer; others make room for it where they have to, as for
    `ingle load`. A model that does not sleep and is not in memory is not loaded by this.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(NO_WAIT, PROGRESS, JSON),
    examples=(("ingle wake coder", "It answers at once from then on."),),
)
