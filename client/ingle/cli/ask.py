"""`ingle ask`: one question, one answer."""

from __future__ import annotations

from ingle.asking import parts, turns
from ingle.cli.follow import Follower, Reading, leave
from ingle.cli.grammar import Given, Option, Usage, Verb
from ingle.cli.output import CannotWrite, print_json, print_line
from ingle.errors import from_failed
from ingle.line import Line
from ingle.wire.codec import Message
from ingle.wire.limits import STRING

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Callable


def run(given: Given) -> int:
    """Ask, and print the answer."""
    return ask(given)


def ask(given: Given, trace: Callable[[list[Message]], None] | None = None) -> int:
    """Ask, and print the answer; `trace` gets what each hook was shown and made of it, also after a failure."""
    reading = Reading()
    context, piped = _context(given, reading)
    body, around = parts(
        {"messages": turns(_prompt(given, reading, piped=piped), given.value("system"))},
        {
            "model": given.value("model"),
            "detach": given.switch("detach"),
            "max_tokens": given.value("max-tokens"),
            "temperature": given.value("temperature"),
            "seed": given.value("seed"),
            "context": context,
            "trace": trace is not None,
        },
    )
    stream = not given.switch("no-stream")
    with Line(given.value("socket"), tags=given.all("tag")) as line:
        ref = line.request("chat", body, stream=stream, **around)
        follower = Follower(json=given.switch("json"), stream=stream, verbose=given.switch("verbose"))
        try:
            if given.switch("detach"):
                return _detach(line, ref, given.switch("json"))
            return follower.follow(line, ref)
        except (KeyboardInterrupt, CannotWrite):
            leave(line, ref)
            raise
        finally:
            if trace is not None:
                trace(follower.hooks)


def _prompt(given: Given, reading: Reading, *, piped: bool) -> str:
    said = [" ".join(given.words), *map(reading.file, given.all("file")), "" if piped else reading.piped_in()]
    prompt = "\n\n".join(part for part in said if part)
    if not prompt.strip():
        raise Usage("ask: PROMPT is missing", "give it as words, with -f FILE, or pipe it in")
    return prompt


def _context(given: Given, reading: Reading) -> tuple[list[Message], bool]:
    """Return what is offered to hooks beside the prompt, and whether standard input went there."""
    items, piped = [], False
    for said in given.all("context"):
        kind, _, path = said.partition("=")
        if not kind or not path:
            raise Usage(f"ask: --context {said}: expected KIND=FILE", "such as --context diff=-, with `git diff |`")
        if path == "-" and piped:
            raise Usage("ask: standard input can be one --context only", "put the others into files")
        item = {"kind": kind, "text": reading.piped_in() if path == "-" else reading.file(path)}
        items.append(item if path == "-" else item | {"name": path[-STRING:]})
        piped = piped or path == "-"
    return items, piped


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
        Option(
            ("--context",),
            "Offer a file's text, or with `-` what is piped in, to hooks that show context to the model. KIND says "
            "what it is, such as `file`, `selection` or `diff`. May be repeated.",
            "KIND=FILE",
            many=True,
        ),
        Option(("--tag",), "Say what asks, such as `editor`: hooks select by it. May be repeated.", "TAG", many=True),
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
        ("git diff | ingle ask --context diff=- what is this?", "Offers piped text to hooks, not to the model."),
        ("ingle ask -- -v or --verbose?", "Words that begin with a dash go behind `--`."),
        ("ingle ask --json --no-stream hi | jq .usage", "Takes the answer apart in a script."),
    ),
)
