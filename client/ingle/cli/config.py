"""`ingle config`: what the daemon's settings are, where each comes from, and whether a file is right."""

import json
import os
import shutil
import sys

from ingle.cli.grammar import JSON, Given, Option, Usage, Verb
from ingle.cli.output import note, print_json, print_line
from ingle.line import Line

BAD = 78
"""That of `ingled` for a configuration that is wrong: systemd starts it no more."""


def run(given: Given) -> int:
    """Show the settings, or check a file."""
    match given.words:
        case ["show"]:
            return _show(given)
        case ["check", *files] if len(files) < 2:
            return _check(files, as_json=given.switch("json"))
        case _:
            raise Usage(f"config: {' '.join(given.words)}", "say `ingle config show` or `ingle config check [FILE]`")


def _show(given: Given) -> int:
    with Line(given.value("socket")) as line:
        value = line.call("config")
    if given.switch("json"):
        print_json(value)
        return 0
    everything = given.switch("effective")
    settings = [one for one in value["settings"] if everything or one["origin"] is not None]
    for setting in settings:
        origin = f"    # {setting['origin'] or 'default'}" if given.switch("origin") else ""
        print_line(f"{setting['key']} = {json.dumps(setting['value'], ensure_ascii=False)}{origin}")
    if not settings:
        note("nothing is set: `ingle config show --effective` prints the defaults\n")
    if value["problem"]:
        note(f"the last reload changed nothing: {value['problem']}\n")
    return 0


def _check(files: list[str], *, as_json: bool) -> int:
    """Become `ingled --check-config`: the daemon's own program knows what is right."""
    beside = os.path.join(os.path.dirname(sys.executable), "ingled")
    program = beside if os.access(beside, os.X_OK) else shutil.which("ingled")
    if program is None:
        raise Usage("ingled is not installed here", "check the file where the daemon is")
    options = [*(["--config", files[0]] if files else []), *(["--json"] if as_json else [])]
    os.execv(program, [program, "--check-config", *options])


VERB = Verb(
    "config",
    run,
    """
    `show` prints what is set, as the running daemon has it; with --effective also what is not said anywhere, and
    with --origin the file that each comes from. `check` checks FILE, or the files that a daemon would read, as
    `ingled --check-config` does: keys and values, every model's options in the engine's own words, and plugins. With
    --json that is an object whose list `checked` has for each `what` its `problem`, or null.
    """,
    "show | check [FILE]",
    least=1,
    most=2,
    options=(
        Option(("--effective",), "Also defaults."),
        Option(("--origin",), "The file that each comes from."),
        JSON,
    ),
    examples=(
        ("ingle config show --effective --origin", "All of it."),
        ("ingle config check new.toml", "Before it is put in place."),
    ),
    exits=((BAD, "`check`: something is wrong."),),
)
