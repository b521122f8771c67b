"""`ingle requests`: what the daemon does for this account, or for all."""

from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import duration, print_json, print_line, table, text_of
from ingle.line import Line

HEADINGS = ("ID", "MODEL", "STATE", "OP", "AGE", "BYTES", "DETACHED")


def run(given: Given) -> int:
    """Print requests."""
    with Line(given.value("socket")) as line:
        value = line.call("requests", {"all": True} if given.switch("all") else {})
    if given.switch("json"):
        print_json(value)
        return 0
    if given.switch("names"):
        for request in value["requests"]:
            print_line(request["id"])
        return 0
    whose = ["ACCOUNT"] if given.switch("all") else []
    rows = [
        (
            request["id"],
            *(text_of(request.get(name.lower())) for name in whose),
            text_of(request.get("model")),
            request["state"],
            text_of(request.get("op")),
            duration(request.get("age_s")),
            text_of(request.get("offset")),
            "yes" if request.get("detach") else "no",
        )
        for request in value["requests"]
    ]
    table((HEADINGS[0], *whose, *HEADINGS[1:]), rows, ("AGE", "BYTES"))
    return 0


VERB = Verb(
    "requests",
    run,
    """Prints a line for each request of this account that is with hooks (`filtering`), is queued, runs,
    is ending, or has ended with its answer kept for `ingle attach`. Those of other accounts are for whoever has the
    right `requests`.
    """,
    options=(
        Option(("-a", "--all"), "Print the requests of all accounts."),
        Option(("--names",), "Print only the ids, one a line."),
        JSON,
    ),
    examples=(("ingle requests", "What did I leave running?"),),
)
