"""`ingle pin`: keep a model where it is."""

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Pin the model."""
    return change(given, pinned=True)


def change(given: Given, *, pinned: bool) -> int:
    """Pin or unpin the model, and print what it is now."""
    with Line(given.value("socket")) as line:
        value = line.call("pin", {"model": given.words[0], "pinned": pinned})
    word = "pinned" if value["pinned"] else "not pinned"
    print_json(value) if given.switch("json") else print_line(f"{value['model']}: {word}, {value['state']}")
    return 0


VERB = Verb(
    "pin",
    run,
    """
    MODEL is not put out for other models from now on, and does not expire. A model that is not in memory is not
    loaded by this: see `ingle load`. `ingle unpin` ends it; so does a restart of the daemon, unless the
    configuration says `pin = true`.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(JSON,),
    examples=(("ingle pin coder", "Others have to do with the memory that is left."),),
)
