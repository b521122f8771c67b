"""`ingle logs`: what the daemon has written to the journal."""

import os

from ingle.address import NAME, SYSTEM, find, runtime_dir
from ingle.cli.grammar import Given, Option, Usage, Verb
from ingle.errors import IngleError
from ingle.line import Line

UNIT = "ingled.service"
SOCKET_UNIT = "ingled.socket"
HELPERS = ("ingle-nursery.service", "ingled-hooks.service")


def run(given: Given) -> int:
    """Become journalctl, with the units of the daemon that is meant; it need not run."""
    socket = find(given.value("socket"))
    if socket == os.path.join(SYSTEM, NAME):
        whose, units = [], [UNIT, *HELPERS]
    elif socket == os.path.join(runtime_dir(), NAME):
        whose, units = ["--user"], [UNIT]
    else:
        mine = _standard_error(socket) or "its standard error"
        raise Usage(f"no unit listens at {socket}", f"the log of a daemon of your own is {mine}")
    if not _unit_is_there(whose) and (where := _standard_error(socket)) is not None:
        text = f"the daemon at {socket} was not started by systemd: nothing of it is in the journal"
        raise Usage(text, f"its log is {where}")
    command = ["journalctl", *whose, *(word for unit in units for word in ("-u", unit))]
    command += ["-n", given.value("lines") or "100"]
    if given.switch("follow"):
        command.append("-f")
    if given.switch("json"):
        command += ["-o", "json"]
    if (model := given.value("model")) is not None:
        command.append(f"MODEL={model}")
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise Usage("there is no journalctl here", "without systemd, the daemon's log is its standard error") from None


def _unit_is_there(whose: list[str]) -> bool:
    """Return whether systemd runs the daemon, or starts it when somebody connects: that should not be us."""
    import subprocess

    asked = ["systemctl", *whose, "is-active", "--quiet", UNIT, SOCKET_UNIT]
    try:
        return subprocess.run(asked, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _standard_error(socket: str) -> str | None:
    """Return where a daemon that runs here and may be looked at writes its log."""
    try:
        with Line(socket, timeout=2.0, returns=0.0) as line:
            pid = line.call("status")["daemon"]["pid"]
        return f"its standard error, {os.readlink(f'/proc/{pid}/fd/2')}"
    except (IngleError, OSError):
        return None


VERB = Verb(
    "logs",
    run,
    """
    Prints what the daemon, its nursery, its workers and the keeper of its hook hosts have written to systemd's
    journal, by journalctl. What an engine itself says while it loads is in the worker's own file: `ingle show MODEL`
    prints its end. Prompts and answers are never logged. System-wide logs are readable for root and the group
    systemd-journal.
    """,
    options=(
        Option(("-f", "--follow"), "Go on with what comes."),
        Option(("-m", "--model"), "Only what is about this model.", "MODEL"),
        Option(("-n", "--lines"), "How many lines, 100 if not said; `all` for all.", "N"),
        Option(("--json",), "Print journalctl's JSON, with fields REQUEST_ID, MODEL, ACCOUNT and HOOK."),
    ),
    examples=(("ingle logs -f", "Watch it."), ("ingle logs -m coder", "What happened to this model?")),
)
