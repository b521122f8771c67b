"""`ingle shutdown`: end the daemon."""

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Ask the daemon to end."""
    with Line(given.value("socket")) as line:
        value = line.call("shutdown")
    number = value["running"]
    said = f"draining: {number} request{' is' if number == 1 else 's are'} still running"
    print_json(value) if given.switch("json") else print_line(said)
    return 0


VERB = Verb(
    "shutdown",
    run,
    """
    The daemon takes no more requests, lets the running ones end, stops its workers and exits. Under systemd,
    `systemctl --user stop ingled` does the same, and keeps it from being started again.
    """,
    options=(JSON,),
    examples=(("ingle shutdown", "Good night."),),
)
