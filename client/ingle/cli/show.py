"""`ingle show`: all about one model."""

from __future__ import annotations

from ingle.bytesize import spell
from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import duration, next_step, paint, print_json, put, visible
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any

LISTS = ("story", "log")


def run(given: Given) -> int:
    """Print a model's fields, then its story and log."""
    with Line(given.value("socket")) as line:
        model = line.call("show", {"model": given.words[0]})
    if given.switch("json"):
        print_json(model)
        return 0
    width = max(map(len, model))
    lines = [
        visible(f"{key.ljust(width)}  {_plain(key, value)}")
        for key, value in model.items()
        if key not in LISTS and value is not None
    ]
    if model["state"] == "failed":
        lines.append(visible(f"{'next'.ljust(width)}  {next_step(model)}"))
    for key in LISTS:
        if model.get(key):
            items = (item if isinstance(item, str) else _plain(key, item) for item in model[key])
            lines += ["", paint(key, "bold"), *(f"  {visible(item, lines=True)}" for item in items)]
    put("\n".join(lines) + "\n")
    return 0


def _plain(key: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | float() if key.endswith("_bytes"):
            return spell(value)
        case int() | float() if key.endswith("_s") and key != "tokens_s":
            return duration(value)
        case dict():
            return " ".join(f"{name}={item}" for name, item in value.items()) or "-"
        case list() | tuple():
            return " ".join(map(str, value)) or "-"
        case _:
            return str(value)


VERB = Verb(
    "show",
    run,
    """Prints what the daemon knows of MODEL: where it comes from, its state and why, what it uses, its
    options and default sampling, then its story (what happened to it, the latest last) and the end of its
    worker's log.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(JSON,),
    examples=(("ingle show coder", "Why did it not load?"),),
)
