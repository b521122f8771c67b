"""`ingle status`: how the daemon is."""

from __future__ import annotations

from ingle.bytesize import spell
from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import duration, print_json, print_line, text_of
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any


def run(given: Given) -> int:
    """Print how the daemon is."""
    with Line(given.value("socket")) as line:
        status = line.call("status")
        path = line.path
    if given.switch("json"):
        print_json(status)
        return 0
    daemon, models, requests = status["daemon"], status["models"], status["requests"]
    protocol = ".".join(map(str, status["protocol"]))
    nursery, dropped = status.get("nursery") or {}, status.get("dropped") or {}
    lines = [
        f"daemon    {daemon['name']} {daemon['version']}, protocol {protocol}, pid {text_of(daemon.get('pid'))}, "
        f"up {duration(daemon.get('uptime_s'))}, {spell(daemon.get('rss_bytes'))}",
        f"socket    {daemon.get('socket') or path}",
        f"state     {'draining: takes no more requests' if daemon.get('draining') else 'serving'}",
        f"models    {_counts(models, ('total', 'ready', 'loading', 'failed'))}",
        f"requests  {_counts(requests, ('running', 'queued', 'ending', 'done_total', 'failed_total'))}",
        f"clients   {text_of(status.get('connections'))} connected, {text_of(status.get('sessions'))} sessions",
        f"nursery   {text_of(nursery.get('state'))}, pid {text_of(nursery.get('pid'))}",
    ]
    if suspend := status.get("suspend"):
        lines.append(f"suspend   {_suspend(suspend)}")
    if daemon.get("config_problem"):
        lines.append(f"config    the last reload changed nothing: {daemon['config_problem']}")
    if any(dropped.values()):
        lines.append(f"dropped   {_counts(dropped, tuple(dropped))}")
    for text in lines:
        print_line(text)
    return 0


SUSPEND = {
    "off": "the daemon does not listen",
    "unavailable": "the daemon does not hear of it",
    "listening": "the daemon hears of it, and cannot delay it",
    "ready": "models are made ready for it",
    "suspending": "the machine is about to be suspended",
}


def _suspend(suspend: dict[str, Any]) -> str:
    why = f": {suspend['why']}" if suspend.get("why") else ""
    return f"{SUSPEND.get(suspend['state'], suspend['state'])}{why}"


def _counts(counts: dict[str, int], names: tuple[str, ...]) -> str:
    said = (f"{text_of(counts.get(name))} {name.removesuffix('_total').replace('_', ' ')}" for name in names)
    return ", ".join(said)


VERB = Verb(
    "status",
    run,
    """
    Prints the daemon's version, socket and state, and counts of its models, requests and clients. The exit
    status is 3 when no daemon answers.
    """,
    options=(JSON,),
    examples=(("ingle status", "Is it there?"), ("ingle status --json | jq .requests.running", "For scripts.")),
)
