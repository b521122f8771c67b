"""`ingle logs`: what the daemon has written to the journal."""

import os

from ingle.address import find, runtime_dir
from ingle.cli.grammar import Given, Option, Usage, Verb

SYSTEM = "/run/ingle/ingle.sock"
UNIT = "ingled.service"
HELPERS = ("ingle-nursery.service", "ingled-hooks.service")


def run(given: Given) -> int:
    """Become journalctl, with the units of the daemon that is meant; it need not run."""
    socket = find(given.value("socket"))
    if socket == SYSTEM:
        command = ["journalctl", "-u", UNIT, *(word for unit in HELPERS for word in ("-u", unit))]
    elif socket == os.path.join(runtime_dir(), "ingle.sock"):
        command = ["journalctl", "--user", "-u", UNIT]
    else:
        raise Usage(f"no unit listens at {socket}", "the log of a daemon of your own is its standard error")
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
