"""`ingle whoami`: which account one is to the daemon, and what it may do."""

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json, print_line, text_of
from ingle.line import Line


def run(given: Given) -> int:
    """Print the account and its rights."""
    with Line(given.value("socket")) as line:
        who = line.call("whoami")
    if given.switch("json"):
        print_json(who)
        return 0
    name = f"{who['account']} ({who['user']})" if who.get("user") else who["account"]
    limits, left = who.get("limits") or {}, who.get("tokens_left") or {}
    said = [f"{value} {key.replace('_', ' ')}" for key, value in limits.items() if value is not None]
    rest = [f"{value} of this {period}" for period, value in left.items() if value is not None]
    lines = (
        ("account", name),
        ("groups", _list(who.get("groups"))),
        ("decided by", text_of(who.get("rule"))),
        ("may use", _list(who.get("models"))),
        ("may", _list(who.get("may"))),
        ("class", text_of(who.get("priority"))),
        ("limits", _list(said)),
        ("tokens left", _list(rest)),
        ("requests", f"{text_of(who.get('open_requests'))} open"),
    )
    for key, value in lines:
        print_line(f"{key:<13}{value}")
    return 0


def _list(names: list[str] | None) -> str:
    return ", ".join(names or ()) or "-"


VERB = Verb(
    "whoami",
    run,
    """
    The account is the user whose process connects: the kernel tells the daemon, and nothing that a program says
    changes it. Printed are its groups, the rule that decides what it may do, the models that it may use, its
    rights (`hook`: offer hooks; `load`: load and unload models; `requests`: see and end the requests of others;
    `shutdown`: end the daemon), the class of its requests, its limits and what is left of them.
    """,
    options=(JSON,),
    examples=(("ingle whoami", "What may I do here?"), ("ingle whoami --json | jq .models", "Which models?")),
)
