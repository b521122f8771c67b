"""`ingle reload`: have the daemon read its configuration anew."""

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line


def run(given: Given) -> int:
    """Reload, and say what has changed."""
    with Line(given.value("socket")) as line:
        value = line.call("reload", forever=True)
    if given.switch("json"):
        print_json(value)
        return 0
    print_line(f"changed: {', '.join(value['changed']) or 'nothing'}")
    if value.get("at_next_load"):
        print_line(f"of these at the next load: {', '.join(value['at_next_load'])}")
    if value["after_restart"]:
        print_line(f"after a restart: {', '.join(value['after_restart'])}")
    for problem in value.get("problems") or ():
        print_line(f"plugin {problem['plugin']} cannot run: {problem['why']}")
    return 0


VERB = Verb(
    "reload",
    run,
    """
    The daemon reads its files and checks them. If something is wrong nothing changes, and the exit status is 4.
    Otherwise all changes at once, but for two things: a model that is loaded keeps its launch options until its next
    load, and the places of socket and state change when the daemon is restarted. Both are named. It returns when the
    plugins run as they are configured; one that cannot is named, and those that ran before stay.
    """,
    options=(JSON,),
    examples=(("ingle reload", "Say what has changed, or what is wrong."),),
)
