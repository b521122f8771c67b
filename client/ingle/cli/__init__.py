"""The `ingle` command: one verb a file, each imported only when it is asked for, so that a verb starts
fast.
"""

import sys

from ingle.cli.grammar import Usage, Verb, parse

VERBS = (
    "ask",
    "embed",
    "attach",
    "ps",
    "models",
    "show",
    "status",
    "whoami",
    "requests",
    "cancel",
    "load",
    "plan",
    "unload",
    "sleep",
    "wake",
    "pin",
    "unpin",
    "want",
    "yield",
    "events",
    "doctor",
    "verify",
    "hooks",
    "hook",
    "rpc",
    "logs",
    "reload",
    "config",
    "completion",
    "shutdown",
    "version",
    "help",
)
"""In the order of `ingle help`."""


def verb(name: str) -> Verb:
    """Return the verb of this name."""
    module = __import__(f"ingle.cli.{name}", fromlist=["VERB"])
    found: Verb = module.VERB
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status (`ingle help exit-codes`)."""
    if argv is None:
        argv = sys.argv[1:]
    json = "--json" in argv  # until the command line has been understood
    try:
        chosen, rest = choose(argv)
        given = parse(chosen, rest)
        json = given.switch("json")
        if given.switch("help"):
            from ingle.cli.manual import page
            from ingle.cli.output import put

            put(page(chosen))
            return 0
        return chosen.run(given)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from ingle.cli.outcome import report

        return report(error, json=json)


def choose(argv: list[str]) -> tuple[Verb, list[str]]:
    """Return the verb that a command line names, and what is said to it. Raises Usage."""
    before: list[str] = []
    while argv and argv[0].startswith("-"):
        option, argv = argv[0], argv[1:]
        if option in ("-h", "--help"):
            argv = ["help", *argv]
        elif option in ("-V", "--version"):
            argv = ["version", *argv]
        elif option == "--socket":
            if not argv:
                raise Usage("--socket needs a value: --socket PATH", "`ingle help environment` says which it may be")
            before, argv = [*before, option, argv[0]], argv[1:]
        elif option.startswith("--socket="):
            before.append(option)
        else:
            raise Usage(f"unknown option {option}", "options of a verb come after it: `ingle VERB [OPTION]...`")
    name, rest = (argv[0], argv[1:]) if argv else ("help", [])
    if name not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(name, VERBS, 1, 0.5)
        hint = f"did you mean `ingle {near[0]}`?" if near else "`ingle help` lists the verbs"
        raise Usage(f"there is no verb {name!r}", hint)
    return verb(name), before + rest
