"""`ingle help`: the manual."""

from ingle.cli.grammar import Given, Usage, Verb
from ingle.cli.output import put


def run(given: Given) -> int:
    """Print a page of the manual."""
    from ingle.cli import VERBS, verb
    from ingle.cli.manual import TOPICS, contents, page, topic

    if not given.words:
        put(contents())
    elif (name := given.words[0]) in VERBS:
        put(page(verb(name)))
    elif name in TOPICS:
        put(topic(name))
    else:
        raise Usage(f"there is no page on {name!r}", "`ingle help` lists verbs and topics")
    return 0


VERB = Verb(
    "help",
    run,
    "Prints what the verbs are, or the page of one VERB or TOPIC.",
    "[VERB|TOPIC]",
    most=1,
    examples=(("ingle help ask", "All about asking."), ("ingle help exit-codes", "What the statuses mean.")),
    alone=True,
)
