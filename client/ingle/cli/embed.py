"""`ingle embed`: texts become vectors."""

from __future__ import annotations

from ingle.asking import parts
from ingle.cli.follow import Reading, account_of, leave, waiting_for
from ingle.cli.grammar import Given, Option, Usage, Verb
from ingle.cli.output import StatusLine, note, print_json
from ingle.errors import from_failed
from ingle.line import Line
from ingle.wire.codec import Message


def run(given: Given) -> int:
    """Print a vector for each text."""
    told = {"model": given.value("model"), "dimensions": given.value("dimensions")}
    body, around = parts({"input": _texts(given)}, told)
    with Line(given.value("socket"), tags=given.all("tag")) as line:
        ref = line.request("embed", body, stream=False, **around)
        try:
            done = _end(line, ref)
        except KeyboardInterrupt:
            leave(line, ref)
            raise
    if given.switch("json"):
        print_json({key: value for key, value in (done | done["result"]).items() if key not in ("t", "result")})
        return 0
    for vector in done["result"]["vectors"]:
        print_json(vector, line=True)
    if given.switch("verbose"):
        note(account_of(done))
    return 0


def _texts(given: Given) -> list[str]:
    reading = Reading()
    if given.switch("lines"):
        if given.words:
            raise Usage("embed: --lines takes the texts from standard input", "leave TEXT out, or --lines")
        texts = reading.piped_in().splitlines()
    else:
        texts = [*given.words, *map(reading.file, given.all("file"))] or [reading.piped_in()]
    texts = [text for text in texts if text]
    if not texts:
        raise Usage("embed: TEXT is missing", "give it as words, with -f FILE, or pipe it in")
    return texts


def _end(line: Line, ref: int) -> Message:
    status = StatusLine()
    try:
        while True:
            message = line.next(ref)
            if message["t"] == "failed":
                raise from_failed(message)
            if message["t"] == "done":
                return message
            if message["t"] == "progress":
                status.show(waiting_for(message))
    finally:
        status.clear()


VERB = Verb(
    "embed",
    run,
    """
    Prints a line for each TEXT and the contents of each FILE: its vector, as a JSON list of numbers. Without any,
    what is piped into standard input is one text, or with --lines as many as it has lines that are not empty. Quote
    a TEXT of several words. The model must be one with `runner = "pooling"` in the daemon's configuration; `ingle
    models` tells. A text that is longer than the model takes is refused, never cut.
    """,
    "[TEXT]...",
    most=None,
    options=(
        Option(("-m", "--model"), "Name of the model; without it the daemon's default.", "MODEL"),
        Option(("-f", "--file"), "Make a vector of a file's text. May be repeated.", "FILE", many=True),
        Option(("--lines",), "Each line of standard input is a text."),
        Option(("--dimensions",), "Length of the vectors, for models that were made to be cut short.", "N", int),
        Option(("--tag",), "Say what asks, such as `indexer`: hooks select by it. May be repeated.", "TAG", many=True),
        Option(("-v", "--verbose"), "Print model, tokens, times and hooks on standard error."),
        Option(("--json",), "Print one JSON object with vectors, usage and model."),
    ),
    examples=(
        ("ingle embed -m mini 'why is the sky blue?'", "Prints one vector."),
        ("cut -f2 titles.tsv | ingle embed -m mini --lines > vectors.jsonl", "A vector a line."),
    ),
)
