"""`ingle want`: say that a model will probably be asked soon."""

from ingle.cli.grammar import JSON, Given, Option, Usage, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
DIGITS = 12
"""Of a longer number nobody means what it says."""


def run(given: Given) -> int:
    """Hint, and print whether the model will be there in time."""
    within = given.value("within") or "5s"
    args = {"model": given.words[0], "within_ms": round(seconds(within) * 1000)}
    with Line(given.value("socket")) as line:
        value = line.call("want", args)
    if given.switch("json"):
        print_json(value)
    else:
        eta, why = value.get("eta_ms"), value.get("why")
        when = "ready now" if eta == 0 else f"ready in about {(eta or 0) / 1000:.1f}s"
        when = "it is not known yet how long its load takes" if eta is None else when
        print_line(f"{value['model']}: {value['state']}, {f'not loaded: {why}' if why else when}")
    return 0


def seconds(text: str) -> float:
    """Return the seconds that a text such as `5s`, `500ms` or `2m` means. Raises Usage."""
    for unit, factor in SECONDS.items():
        number = text.removesuffix(unit)
        if number != text and len(number) <= DIGITS and number.replace(".", "", 1).isdecimal():
            return float(number) * factor
    raise Usage(f"--within is '{text}': expected a time such as 500ms, 5s or 2m", "see `ingle help want`")


VERB = Verb(
    "want",
    run,
    """
    A hint, for editors and scripts: MODEL is loaded if there is room, or room that idle models can make. Nothing
    that runs has to wait for it. Prints when it will be ready.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(
        Option(("--within",), "When it will be asked, such as 500ms, 5s (the default) or 2m.", "TIME"),
        JSON,
    ),
    examples=(("ingle want coder --within 5s", "Somebody has begun to type."),),
)
