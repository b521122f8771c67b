"""`ingle events`: hear what happens."""

import time

from ingle.cli.grammar import Given, Option, Verb
from ingle.cli.output import print_json, print_line
from ingle.errors import from_failed
from ingle.line import Line
from ingle.wire.codec import Message

TOPICS = ("model", "request", "daemon", "hook")
"""Those of this version's daemon."""


def run(given: Given) -> int:
    """Print events until interrupted."""
    with Line(given.value("socket")) as line:
        ref = line.subscribe(given.words or line.session.welcome["topics"])
        while True:
            message = line.next(ref)
            if message["t"] == "failed":
                raise from_failed(message)
            if given.switch("json"):
                print_json(message, line=True)
            elif message["t"] == "event":
                print_line(_line(message))


def _line(event: Message) -> str:
    fields = " ".join(f"{key}={value}" for key, value in event["value"].items() if value is not None)
    lost = f" (before it {event['lost']} were lost)" if event.get("lost") else ""
    return f"{time.strftime('%H:%M:%S')} {event['topic']} {fields}{lost}"


VERB = Verb(
    "events",
    run,
    f"""
    Prints a line for each event of the topics, until Ctrl-C. Topics: {", ".join(TOPICS)}; without any, all that
    the daemon has. An account hears of its own requests and hooks only. What happens while the
    daemon is away is not told.
    """,
    "[TOPIC...]",
    most=None,
    options=(Option(("--json",), "Print the daemon's messages as JSON lines."),),
    examples=(("ingle events model", "Watches models come and go."),),
)
