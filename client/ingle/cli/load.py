"""`ingle load`: make a model warm."""

from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import print_json
from ingle.line import Line


def run(given: Given) -> int:
    """Load a model, and wait until it is ready."""
    args = {"model": given.words[0], "wait": not given.switch("no-wait")}
    with Line(given.value("socket")) as line:
        value = line.call("load", args, forever=bool(args["wait"]))
    print_json(value) if given.switch("json") else print(f"{value['model']}: {value['state']}")
    return 0


VERB = Verb(
    "load",
    "make a model warm",
    run,
    """
    Loads MODEL and returns when it is ready to answer, or says why it cannot be loaded. Asking a cold model
    loads it as well; this is for having it ready before.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(Option(("--no-wait",), "Return at once; see `ingle ps` for how far it is."), JSON),
    examples=(("ingle load coder", "Warms it up."),),
)
