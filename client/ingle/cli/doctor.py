"""`ingle doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import sys

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import paint, print_json, put, visible
from ingle.errors import Unreachable
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any

BROKEN = 5
COLOURS = {"good": "green", "warning": "bold", "broken": "red"}


def run(given: Given) -> int:
    """Ask the daemon, or look without it; print each finding with its remedy."""
    try:
        findings = _ask(given.value("socket"))
    except Unreachable as error:
        findings = [_no_daemon(error), *_alone()]
    if given.switch("json"):
        print_json({"findings": findings})
    else:
        width = max(len(one["check"]) for one in findings)
        put("".join(_lines(one, width) for one in findings))
    return BROKEN if any(one["state"] == "broken" for one in findings) else 0


def _ask(socket: str | None) -> list[dict[str, Any]]:
    with Line(socket) as line:
        found: list[dict[str, Any]] = line.call("doctor", forever=True)["findings"]
    return [{"check": "daemon", "state": "good", "text": "it answers", "remedy": ""}, *found]


def _no_daemon(error: Unreachable) -> dict[str, Any]:
    return {"check": "daemon", "state": "warning", "text": str(error), "remedy": error.hint}


def _alone() -> list[dict[str, Any]]:
    """Have a process of the daemon's own code look, if that is installed."""
    import json
    import subprocess

    done = subprocess.run([sys.executable, "-P", "-m", "ingled.doctor"], capture_output=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    except (ValueError, KeyError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        text = f"the daemon's own check cannot run: {said[-1] if said else done.returncode}"
        return [{"check": "daemon", "state": "broken", "text": text, "remedy": "install ingle[daemon]"}]
    return found


def _lines(one: dict[str, Any], width: int) -> str:
    state = paint(one["state"].ljust(7), COLOURS.get(one["state"], "bold"))
    remedy = f"\n{' ' * (width + 11)}-> {visible(one['remedy'])}" if one["remedy"] else ""
    return f"{visible(one['check']).ljust(width)}  {state}  {visible(one['text'])}{remedy}\n"


VERB = Verb(
    "doctor",
    run,
    """
    Looks at the installed engine, GPUs and their driver, memory, disks, /dev/shm, the configuration, and for
    each model at its folder, its permissions and options and whether it fits. Each finding is good, a warning
    or broken, and says what to do. It changes nothing. Where a daemon answers, the daemon looks, with its own
    rights; without one this command does.
    """,
    options=(JSON,),
    examples=(("ingle doctor", "Why does it not run?"),),
    exits=((BROKEN, "Something is broken."),),
)
