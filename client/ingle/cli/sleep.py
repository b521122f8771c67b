"""`ingle sleep`: have a model give most of its memory back, and stay close at hand."""

from ingle.cli.grammar import JSON, Given, Option, Usage, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Put a model to sleep, and return when its memory is free."""
    level = given.value("level")
    if level not in (None, 1, 2):
        raise Usage(f"sleep: --level {level}: there are levels 1 and 2", "see `ingle sleep --help`")
    args = {"model": given.words[0]} | ({} if level is None else {"level": level})
    with Line(given.value("socket")) as line:
        value = line.call("sleep", args, forever=True)
    print_json(value) if given.switch("json") else print_line(f"{value['model']}: sleeping at level {value['level']}")
    return 0


VERB = Verb(
    "sleep",
    run,
    """
    Puts MODEL to sleep and returns when its memory on the GPU is free. At level 1 its weights wait in the memory of
    the machine, and it wakes within seconds; at level 2 they are read from their files again. Its KV cache is
    emptied. Whoever asks it wakes it, and so does `ingle wake`.

    What a model gives back is looked at, and after it has woken its answer to a fixed prompt is compared with the one
    before. A model that fails at either is loaded anew, and not put to sleep again. On a CPU nothing can sleep: vLLM
    would free nothing there. `ingle unload` frees all of a model's memory everywhere.
    """,
    "MODEL",
    least=1,
    most=1,
    options=(
        Option(("--level",), "1 or 2; without it, 1 where the machine has memory for the weights.", "LEVEL", int),
        JSON,
    ),
    examples=(("ingle sleep coder", "Something else needs the GPU for a while."),),
)
