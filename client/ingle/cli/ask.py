"""`ingle ask`: one question, one answer."""

from ingle.asking import parts, turns
from ingle.cli.follow import Follower, Reading, leave
from ingle.cli.grammar import Given, Option, Usage, Verb
from ingle.cli.output import CannotWrite, print_json, print_line
from ingle.errors import from_failed
from ingle.line import Line


def run(given: Given) -> int:
    """Ask, and print the answer."""
    body, around = parts(
        {"messages": turns(_prompt(given), given.value("system"))},
        {
            "model": given.value("model"),
            "detach": given.switch("detach"),
            "max_tokens": given.value("max-tokens"),
            "temperature": given.value("temperature"),
            "seed": given.value("seed"),
        },
    )
    stream = not given.switch("no-stream")
    with Line(given.value("socket")) as line:
        ref = line.request("chat", body, stream=stream, **around)
        try:
            if given.switch("detach"):
                return _detach(line, ref, given.switch("json"))
            follower = Follower(json=given.switch("json"), stream=stream, verbose=given.switch("verbose"))
            return follower.follow(line, ref)
        except (KeyboardInterrupt, CannotWrite):
            leave(line, ref)
            raise


def _prompt(given: Given) -> str:
    reading = Reading()
    said = [" ".join(given.words), *map(reading.file, given.all("file")), reading.piped_in()]
    prompt = "\n\n".join(part for part in said if part)
    if not prompt.strip():
        raise Usage("ask: PROMPT is missing", "give it as words, with -f FILE, or pipe it in")
    return prompt


def _detach(line: Line, ref: int, json: bool) -> int:
    while True:
        message = line.next(ref)
        if message["t"] == "failed":
            raise from_failed(message)
        if message["t"] == "accepted":
            print_json(message) if json else print_line(message["id"])
            return 0


VERB = Verb(
    "ask",
    "ask a model, and print its answer as it comes",
    run,
    """
    Sends PROMPT to a model and prints the answer piece by piece. Several words are joined with spaces. The
    contents of each FILE follow the prompt, and after them what is piped into standard input. The model is
    loaded first when it is not resident; on a terminal, a line on standard error says how far that is. In a script
    whose own standard input stays open, say `ingle ask ... </dev/null`.

    Ctrl-C cancels the request in the daemon. When the daemon restarts under way, the answer goes on where it
    was, if the daemon still knows the request.
    """,
    "PROMPT...",
    most=None,
    options=(
        Option(("-m", "--model"), "Name of the model; without it the daemon's default.", "MODEL"),
        Option(("-s", "--system"), "Instructions that lead the conversation.", "TEXT"),
        Option(("-f", "--file"), "Add a file's text to the prompt. May be repeated.", "FILE", many=True),
        Option(("--max-tokens",), "Longest answer, in tokens.", "N", int),
        Option(("--temperature",), "0 is the likeliest answer, higher is freer.", "T", float),
        Option(("--seed",), "Makes sampling repeatable.", "N", int),
        Option(("--no-stream",), "Print the answer when it is complete."),
        Option(("--detach",), "Print the request's id and leave; `ingle attach ID` reads the answer later."),
        Option(("-v", "--verbose"), "Print reasoning, tokens, times and hooks on standard error."),
        Option(
            ("--json",),
            "Print the daemon's messages as JSON lines; with --no-stream, one object with the whole answer.",
        ),
    ),
    examples=(
        ("ingle ask why is the sky blue?", "Asks the default model."),
        ("git diff | ingle ask -m coder -s 'Be brief.' review this change", "Adds piped text."),
        ("ingle ask -- -v or --verbose?", "Words that begin with a dash go behind `--`."),
        ("ingle ask --json --no-stream hi | jq .usage", "Takes the answer apart in a script."),
    ),
)
