"""`ingle hook run`: a program takes part in requests."""

import os
import signal
from typing import Any

from ingle.cli.grammar import Given, Option, Usage, Verb
from ingle.cli.outcome import say
from ingle.cli.output import note, visible

POINTS = ("request", "prompt", "chunk", "answer", "observe", "model")
SEE = "see `ingle hook --help`"


def run(given: Given) -> int:
    """Offer the program, and run it until interrupted."""
    if given.words[0] != "run":
        raise Usage(
            f"hook: there is no {given.words[0]!r}", "`ingle hook run ... -- PROGRAM`; `ingle hooks` lists them"
        )
    argv = given.words[1:]
    points = _list(given, "point")
    _check(given, argv, points)
    name = given.value("name") or _name_of(argv[0])
    # Only now: what a hook needs takes 20 ms to import.
    from ingle.cli.scripts import once, persistent
    from ingle.hook_calls import why
    from ingle.provider import Hook, Provider

    def failed(hook: str, error: BaseException) -> None:
        say(f"hook {hook}: {why(error)}", "")

    def told(text: str) -> None:
        note(visible(text, lines=True))

    if given.switch("persistent"):
        programs: Any = persistent(name, argv)
    else:
        programs = once(name, argv, text=given.switch("text"), note=told)
    program, runner = programs
    hook = Hook(name, dict.fromkeys(points, runner), _offer(given))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    provider = Provider(
        socket=given.value("socket"), threads=given.value("threads") or 1, name="ingle hook", on_error=failed
    )
    try:
        with provider:
            taken = provider.offer(hook)
            where = ", ".join(taken.get("points") or points)
            order = f", order {taken['order']}" if "order" in taken else ""
            scope = f", scope {taken['scope']}" if "scope" in taken else ""
            note(visible(f"hook {name} at {where}{order}{scope}; Ctrl-C takes it away") + "\n")
            try:
                provider.wait()
            finally:
                program.close()
    finally:
        program.close()
    return 0


def _check(given: Given, argv: list[str], points: list[str]) -> None:
    if not argv:
        raise Usage("hook run: PROGRAM is missing", SEE)
    if not points:
        raise Usage("hook run: --point is missing", f"it is one of {', '.join(POINTS)}")
    for point in points:
        if point not in POINTS:
            raise Usage(f"hook run: there is no point {point!r}", f"it is one of {', '.join(POINTS)}")
    if "chunk" in points and not given.switch("persistent"):
        raise Usage("hook run: --point chunk needs --persistent", "a program for each piece of text would be too slow")
    if given.switch("text") and (given.switch("persistent") or {"chunk", "request", "model"} & {*points}):
        raise Usage("hook run: --text is for prompt, answer and observe, without --persistent", SEE)
    for key, allowed in (("on-error", ("refuse", "skip")), ("scope", ("account", "connection", "all"))):
        if (value := given.value(key)) is not None and value not in allowed:
            raise Usage(f"hook run: --{key} {value}: expected one of {', '.join(allowed)}", SEE)
    if given.value("threads") is not None and given.value("threads") < 1:
        raise Usage("hook run: --threads must be at least 1", SEE)
    import shutil  # 5 ms

    if shutil.which(argv[0]) is None:
        missing = not os.path.exists(argv[0])
        hint = "give its path, such as ./script" if missing else f"`chmod +x {argv[0]}`, and begin it with #!"
        raise Usage(f"hook run: {argv[0]}: {'there is no such program' if missing else 'it is not executable'}", hint)


def _offer(given: Given) -> dict[str, Any]:
    select = {key: _list(given, key) for key in ("models", "accounts", "tags")}
    hold = {"chars": given.value("hold-chars"), "ms": given.value("hold-ms")}
    offer: dict[str, Any] = {
        "version": given.value("hook-version"),
        "order": given.value("order"),
        "deadline_ms": given.value("deadline-ms"),
        "on_error": given.value("on-error"),
        "scope": given.value("scope"),
        "trial": given.switch("trial") or None,
        "security": given.switch("security") or None,
        "select": {key: value for key, value in select.items() if value} or None,
        "hold": {key: value for key, value in hold.items() if value is not None} or None,
    }
    return {key: value for key, value in offer.items() if value is not None}


def _list(given: Given, key: str) -> list[str]:
    return [part for value in given.all(key) for part in value.split(",") if part]


def _name_of(program: str) -> str:
    """Return a name for a program's hook: letters, digits, dots and dashes."""
    stem = os.path.splitext(os.path.basename(program))[0].lower()
    return (
        "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")[:64] or "hook"
    )


def _terminated(number: int, _: object) -> None:
    raise SystemExit(128 + number)


VERB = Verb(
    "hook",
    run,
    """
    `ingle hook run` makes PROGRAM a hook for as long as the command runs. At each request of your account that
    comes to the point, PROGRAM gets JSON on standard input and may print JSON. It gets

        {"point": "prompt", "hook": NAME, "id": REQUEST,
         "call": {"account", "model", "op", "stream", "client", "tags",
                  "context"},
         "messages": [{"role": "user", "content": "hi"}]}

    and prints nothing to leave it unchanged, or

        {"messages": [...]}                     is shown to the model instead
        {"verdict": "refuse", "reason": "..."}  the request ends here
        {"verdict": "answer", "text": "..."}    this is the answer
        {"note": {...}, "state": "..."}         told in the reply; given back
                                                at the request's later points

    Beside `messages` it is `request` at request, `answer` at answer and observe (`{"text": ...}` changes an answer),
    `change` at model, and `text` at chunk. INGLE_HOOK, INGLE_POINT, INGLE_REQUEST, INGLE_ACCOUNT, INGLE_MODEL and
    INGLE_CLIENT say the same in the environment.

    With --text it gets plain text, the user's last message or the answer, and prints what replaces it.

    Exit status 0 is well. 10 refuses, and what it printed is the reason. Any other is a failure, with the last line
    of standard error as its reason, and --on-error says what becomes of the request. When the deadline passes,
    PROGRAM is killed with all that it has started.

    With --persistent PROGRAM is started once, and reads one line of JSON for each call; it answers each with exactly
    one line, `{}` for unchanged. At chunk it gets `text`, `seq` (0 begins a stream), `flush` (hold nothing back any
    longer) and `last`, and answers with {"text": ..., "held": N}, N being the characters that it holds back, or with
    {"verdict": "stop", "text": ..., "reason": ...}.

    A hook that itself asks a model meets itself: let it select other requests (--tags, --models).
    """,
    "run [--] PROGRAM [ARGUMENT]...",
    least=1,
    most=None,
    options=(
        Option(
            ("--point",), "request, prompt, chunk, answer, observe or model; several with commas.", "POINT", many=True
        ),
        Option(("--name",), "Name of the hook; without it the program's.", "NAME"),
        Option(("--order",), "Place in the chain, from 0 to 1000: lower is earlier. 500 if not said.", "N", int),
        Option(("--deadline-ms",), "Longest time for one call; 1000 if not said.", "MS", int),
        Option(("--on-error",), "What becomes of a request when it fails: `skip` (if not said) or `refuse`.", "POLICY"),
        Option(("--trial",), "Run and be told in the reply, but change nothing."),
        Option(("--text",), "Plain text instead of JSON."),
        Option(("--persistent",), "One program that stays, line by line."),
        Option(("--threads",), "How many calls may run at a time; 1 if not said.", "N", int),
        Option(("--models",), "Only requests to these models.", "MODELS", many=True),
        Option(("--tags",), "Only requests of clients with one of these tags.", "TAGS", many=True),
        Option(("--accounts",), "Only requests of these accounts.", "ACCOUNTS", many=True),
        Option(("--scope",), "`account` (if not said), or `all` where the daemon's configuration allows it.", "SCOPE"),
        Option(("--security",), "Nothing may pass by it: what it fails at is refused, and no text goes out unseen."),
        Option(("--hold-chars",), "At chunk: most characters that it holds back.", "N", int),
        Option(("--hold-ms",), "At chunk: for how long it holds text back.", "MS", int),
        Option(("--hook-version",), "Version of the hook, for the reply.", "VERSION"),
    ),
    examples=(
        ("ingle hook run --point prompt --text --name loud -- tr a-z A-Z", "Everybody shouts."),
        (
            "ingle hook run --point prompt --text --on-error refuse --name guard -- \\\n"
            "    sh -c 'if grep -q hunter2; then echo no passwords; exit 10; fi'",
            "A guard in one line.",
        ),
        ("ingle hook run --point observe --text --name keep -- tee -a answers", "Keeps all answers."),
    ),
    exits=((143, "It was terminated; 129 when its terminal was closed."),),
)
