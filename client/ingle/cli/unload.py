"""`ingle unload`: free a model's memory."""

from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Stop a model's worker."""
    with Line(given.value("socket")) as line:
        value = line.call("unload", {"model": given.words[0]} | ({"force": True} if given.switch("force") else {}))
    print_json(value) if given.switch("json") else print_line(f"{value['model']}: {value['state']}")
    return 0


VERB = Verb(
    "unload",
    run,
    "Stops the worker of MODEL. The model can still be asked: that loads it again.",
    "MODEL",
    least=1,
    most=1,
    options=(Option(("--force",), "Cancel its requests first."), JSON),
    examples=(("ingle unload coder", "Makes room."),),
)
