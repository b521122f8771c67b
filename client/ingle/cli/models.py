"""`ingle models`: the models that can be asked."""

from __future__ import annotations

from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import print_json, print_line, table, text_of
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any

HEADINGS = ("NAME", "STATE", "OPS", "CONTEXT", "ALIASES", "SOURCE")


def run(given: Given) -> int:
    """Print every model."""
    with Line(given.value("socket")) as line:
        value = line.call("models")
    if given.switch("json"):
        print_json(value)
    elif given.switch("names"):
        for model in value["models"]:
            for name in (model["name"], *(model.get("aliases") or ())):
                print_line(name)
    else:
        table(HEADINGS, [_row(model) for model in value["models"]], ("CONTEXT",))
    return 0


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    name = model["name"] + (" (default)" if model.get("default") else "")
    name += f" (on {model['base']})" if model.get("base") else ""
    ops, aliases = (text_of(", ".join(model.get(key) or ())) for key in ("ops", "aliases"))
    return name, model["state"], ops, text_of(model.get("context")), aliases, text_of(model.get("source"))


VERB = Verb(
    "models",
    run,
    """
    Prints a line for each model that the daemon's configuration names, warm or cold: its name, state, what it
    can be asked, longest context in tokens, other names, and where its weights are.
    An adapter is shown with its base.
    """,
    options=(Option(("--names",), "Print only the names, one a line."), JSON),
    examples=(("ingle models", "What is there?"),),
)
