"""`ingle load`: make a model warm."""

from ingle.cli.follow import waiting_for
from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import StatusLine, print_json, print_line
from ingle.line import Line

NO_WAIT = Option(("--no-wait",), "Return at once; see `ingle ps` for how far it is.")
PROGRESS = Option(("--progress",), "Show progress on standard error also where that is no terminal, line by line.")


def run(given: Given) -> int:
    """Load a model, and wait until it is ready."""
    return bring("load", given)


def bring(verb: str, given: Given) -> int:
    """Have a model brought to where it can answer, wait until it can, and print what it is then."""
    args = {"model": given.words[0], "wait": not given.switch("no-wait")}
    status = StatusLine(always=given.switch("progress"))
    with Line(given.value("socket")) as line:
        try:
            forever = bool(args["wait"])
            value = line.call(verb, args, forever=forever, on_progress=lambda m: status.show(waiting_for(m, bar=True)))
        finally:
            status.clear()
    print_json(value) if given.switch("json") else print_line(f"{value['model']}: {value['state']}")
    return 0


VERB = Verb(
    "load",
    run,
    """
    Loads MODEL and returns when it is ready to answer, or says why it cannot be loaded. Asking a cold model
    loads it as well; this is for having it ready before.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(NO_WAIT, PROGRESS, JSON),
    examples=(("ingle load coder", "Warms it up."),),
)
