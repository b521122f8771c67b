"""`ingle yield`: have idle models give their memory back."""

from ingle.bytesize import parse, spell
from ingle.cli.grammar import JSON, Given, Option, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Have idle models give memory back, and print which."""
    wish = given.value("bytes")
    with Line(given.value("socket")) as line:
        value = line.call("yield", {} if wish is None else {"bytes": wish})
    if given.switch("json"):
        print_json(value)
        return 0
    for name in value["models"]:
        print_line(f"{name}: gives its memory back")
    freed = f", about {spell(value['bytes'])}" if value["bytes"] else ""
    number = len(value["models"])
    print_line(f"{number} model{'s' * (number > 1)}{freed}" if number else "no model is idle")
    return 0


VERB = Verb(
    "yield",
    run,
    """
    Has models that run nothing and are not pinned sleep, where they can, or unloads them: all of them, or as many as
    give so many bytes back, those first that it costs least to bring back. Whoever asks them brings them back.
    """,
    options=(
        Option(("--bytes",), "How much memory is needed, such as 4GiB; without it, all there is.", "SIZE", parse),
        JSON,
    ),
    examples=(("ingle yield", "Something else needs the GPU."), ("ingle yield --bytes 4GiB", "A part of it.")),
)
