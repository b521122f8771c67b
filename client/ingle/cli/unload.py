"""`ingle unload`: free a model's memory."""

from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Stop a model's worker, and wait until its memory is free."""
    wait = not given.switch("no-wait")
    with Line(given.value("socket")) as line:
        args = {"model": given.words[0], "force": given.switch("force"), "wait": wait}
        value = line.call("unload", args, forever=wait)
    print_json(value) if given.switch("json") else print_line(f"{value['model']}: {value['state']}")
    return 0


VERB = Verb(
    "unload",
    run,
    """
    Stops the worker of MODEL and returns when its memory is free. The model can still be asked: that loads it
    again.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(
        Option(("--force",), "Cancel its requests first."),
        Option(("--no-wait",), "Return at once; see `ingle ps` for when it has gone."),
        JSON,
    ),
    examples=(("ingle unload coder", "Makes room."),),
)
