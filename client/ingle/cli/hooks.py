"""`ingle hooks`: who takes part in requests, and what each of them does."""

import json
import sys
from typing import Any

from ingle.cli.follow import Reading
from ingle.cli.grammar import JSON, Given, Option, Usage, Verb, parse
from ingle.cli.output import note, print_json, print_line, put, table, text_of, visible
from ingle.line import Line
from ingle.wire.codec import Message

HEADINGS = ("NAME", "VERSION", "POINTS", "PROVIDER", "ORDER", "SCOPE", "STATE", "CALLS", "FAILED", "P50", "P99")
NUMBERS = ("ORDER", "CALLS", "FAILED", "P50", "P99")
SUBJECTS = {"messages": "prompt", "request": "request", "text": "chunk", "answer": "answer", "change": "model"}
"""At which point a value with this key is shown."""


def run(given: Given) -> int:
    """List hooks, test one, or trace a request."""
    match given.words:
        case []:
            return _list(given)
        case ["test", name]:
            return _test(given, name)
        case ["test", *_]:
            raise Usage("hooks test: NAME is missing", "`ingle hooks test NAME < request.json`")
        case ["trace", "ask", *words]:
            return _trace(given, words)
        case ["trace", *_]:
            raise Usage("hooks trace: what is to be traced?", "`ingle hooks trace -- ask [OPTION]... PROMPT...`")
        case [word, *_]:
            raise Usage(f"hooks: there is no {word!r}", "`ingle hooks`, `ingle hooks test NAME` or `ingle hooks trace`")
    return 0


def _list(given: Given) -> int:
    with Line(given.value("socket")) as line:
        value = line.call("hooks")
    hooks = value["hooks"]
    if given.switch("json"):
        print_json(value)
        return 0
    if given.switch("names"):
        for hook in hooks:
            print_line(hook["name"])
        return 0
    table(HEADINGS, [_row(hook) for hook in hooks], NUMBERS)
    for hook in hooks:
        if hook.get("why"):
            print_line(f"{hook['name']} is {hook.get('state')}: {hook['why']}")
    for problem in value.get("problems") or ():
        print_line(f"problem: {_problem(problem)}")
    return 0


def _row(hook: Message) -> tuple[str, ...]:
    provider = hook.get("provider")
    if hook.get("pid") is not None:
        provider = f"{provider} ({hook['pid']})"
    return (
        hook["name"],
        text_of(hook.get("version")),
        ",".join(hook.get("points") or ()) or "-",
        text_of(provider),
        text_of(hook.get("order")),
        text_of(hook.get("scope")),
        text_of(hook.get("state")),
        text_of(hook.get("calls")),
        text_of(hook.get("failures")),
        _micros(hook.get("p50_us")),
        _micros(hook.get("p99_us")),
    )


def _micros(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}us" if value < 1000 else f"{value / 1000:.1f}ms"


def _problem(problem: Any) -> str:
    if not isinstance(problem, dict):
        return str(problem)
    return ": ".join(str(problem[key]) for key in ("plugin", "why") if problem.get(key)) or json.dumps(problem)


# ---------------------------------------------------------------- test


def _test(given: Given, name: str) -> int:
    point, value = _example(given)
    with Line(given.value("socket")) as line:
        said = line.call("hook_test", {"hook": name, "point": point, "value": value}, forever=True)
    failed = any(result.get("verdict") == "error" for result in said["results"])
    if given.switch("json"):
        print_json(said)
        return 1 if failed else 0
    from ingle.cli.changes import print_difference, print_trace

    print_trace(_as_done(result, point) for result in said["results"])
    if said.get("value") is not None:
        print_difference(value, said["value"])
    put(f"{said.get('us', 0)} us in all\n")
    return 1 if failed else 0


def _as_done(result: Message, point: str) -> Message:
    """Return a result in the words of `done.hooks`."""
    said = {"name": result.get("hook"), "point": point, "verdict": result.get("verdict", "unchanged")}
    return said | {"us": result.get("us", 0), "note": result.get("note"), "why": result.get("reason")}


def _example(given: Given) -> tuple[str, Message]:
    """Return the point and the value that standard input gives."""
    try:
        value: Any = json.loads(Reading().piped_in() or "null")
    except (ValueError, RecursionError) as error:
        raise Usage(f"hooks test: standard input is not JSON: {error}", _SHAPE) from error
    if isinstance(value, dict) and isinstance(value.get("body"), dict):  # a request as the protocol has it
        value = value["body"]
    if isinstance(value, dict) and isinstance(value.get("prompt"), str):
        call = value.get("call")
        value = value | {
            "messages": [{"role": "prompt", "content": value["prompt"]}],
            "call": {"op": "complete"} | (call if isinstance(call, dict) else {}),
        }
    if not isinstance(value, dict) or not SUBJECTS.keys() & value.keys():
        raise Usage("hooks test: standard input has nothing to show to a hook", _SHAPE)
    point = given.value("point")
    subject = next((key for key in SUBJECTS if key in value and point in (None, SUBJECTS[key])), "")
    if point == "answer" and not subject and isinstance(value.get("text"), str):
        value, subject = value | {"answer": {"text": value["text"]}}, "answer"
    if not subject:
        raise Usage(f"hooks test: standard input has nothing that a hook at '{point}' is shown", _SHAPE)
    shown = {key: value[key] for key in (subject, "call") if key in value}
    if subject == "messages" and isinstance(shown[subject], list):
        shown[subject] = [_plain(message) for message in shown[subject]]
    return SUBJECTS[subject], shown


def _plain(message: Any) -> Any:
    """Return a turn whose content is one text, as hooks get it."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    texts = [str(part.get("text", "")) for part in content if isinstance(part, dict)]
    return {"role": message.get("role"), "content": "".join(texts)}


_SHAPE = 'such as {"messages": [{"role": "user", "content": "hi"}]}, or with `request`, `text` or `answer`'


# ---------------------------------------------------------------- trace


def _trace(given: Given, words: list[str]) -> int:
    from ingle.cli import ask

    socket = given.value("socket")
    json = ["--json"] if given.switch("json") else []
    inner = parse(ask.VERB, [*(("--socket", socket) if socket else ()), *json, *words])
    if inner.switch("help") or inner.switch("detach"):
        raise Usage("hooks trace: --help and --detach are for `ingle ask` alone", "see `ingle hooks --help`")
    if inner.switch("json"):
        return ask.ask(inner, lambda hooks: None)
    return ask.ask(inner, _show)


def _show(hooks: list[Message]) -> None:
    from ingle.cli.changes import print_trace

    if not hooks and sys.exc_info()[0] is not None:  # it failed, and the error says why
        return
    if not hooks:
        note(visible("(no hook took part)") + "\n")
    print_trace(hooks)


VERB = Verb(
    "hooks",
    run,
    """
    Prints a line for each hook: its name, at which points it takes part, who provides it, its place in the chain,
    whose requests it sees, and how it does: `active`, `trial` (changes nothing), `tripped` (left out for a while,
    after it failed too often) or `broken`; how often it was called and failed, and how long it takes. What is wrong
    with plugins is told below.

    `ingle hooks test NAME` shows an example to one hook and prints what it makes of that. The example comes as JSON
    on standard input: an object with `messages`, `request`, `text` or `answer`, and perhaps `call`; a `request` of
    docs/protocol.md or its body will do. No model is asked.

    `ingle hooks trace -- ask ...` asks like `ingle ask`, and prints behind the answer what each hook made of what it
    was shown; with --json that stands in `done.hooks`.
    """,
    "[test NAME | trace -- ask PROMPT...]",
    most=None,
    options=(
        Option(("--names",), "Print only the names, one a line."),
        Option(("--point",), "For test: at which point the hook is to see the example.", "POINT"),
        JSON,
    ),
    examples=(
        ("ingle hooks", "Who takes part?"),
        ('echo \'{"prompt": "hi"}\' | ingle hooks test redact', "Tries one on a prompt."),
        ("ingle hooks trace -- ask -m coder what is in this file?", "What did each of them change?"),
    ),
    exits=((1, "Something broke on the daemon's side, it is too busy, or the hook that was tested has failed."),),
)
