"""`ingle yield`: have idle models give their memory back."""

from ingle.cli.grammar import JSON, Given, Option, Usage, Verb
from ingle.cli.output import print_json, print_line, size
from ingle.line import Line

UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def run(given: Given) -> int:
    """Unload idle models, and print which."""
    wish = given.value("bytes")
    with Line(given.value("socket")) as line:
        value = line.call("yield", {} if wish is None else {"bytes": count(wish)})
    if given.switch("json"):
        print_json(value)
        return 0
    for name in value["models"]:
        print_line(f"{name}: gives its memory back")
    freed = f", {size(value['bytes'])} or more" if value["bytes"] else ""
    number = len(value["models"])
    print_line(f"{number} model{'s' * (number > 1)}{freed}" if number else "no model is idle")
    return 0


def count(text: str) -> int:
    """Return the bytes that a text such as `4GiB` means. Raises Usage."""
    number = text.rstrip("BKMGi")
    unit = text[len(number) :]
    if unit not in UNITS or not number.replace(".", "", 1).isdigit() or not float(number):
        raise Usage(f"--bytes is '{text}': expected a size such as 4GiB", "see `ingle help yield`")
    return round(float(number) * UNITS[unit])


VERB = Verb(
    "yield",
    "have idle models give their memory back",
    run,
    """
    Unloads models that run nothing and are not pinned, those first that were used longest ago: all of them, or as
    many as give so many bytes back. They are loaded again when somebody asks them.
    """,
    options=(
        Option(("--bytes",), "How much memory is needed, such as 4GiB; without it, all that can be had.", "SIZE"),
        JSON,
    ),
    examples=(("ingle yield", "Something else needs the GPU."), ("ingle yield --bytes 4GiB", "A part of it.")),
)
