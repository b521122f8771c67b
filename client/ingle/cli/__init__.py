"""The `ingle` command: one verb a file, each imported only when it is asked for, so that a verb starts
fast.
"""

import os
import sys

from ingle.cli.grammar import Usage, Verb, parse

VERBS = (
    "ask",
    "attach",
    "ps",
    "models",
    "show",
    "status",
    "requests",
    "cancel",
    "load",
    "unload",
    "events",
    "rpc",
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
    try:
        status = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who read our output has left, as `head` does: nothing to report. The interpreter would complain when it
        # flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        from ingle.cli.outcome import report

        return report(error)


def run(argv: list[str]) -> int:
    """Find the verb and run it. Raises what went wrong."""
    before: list[str] = []
    while argv and argv[0].startswith("-"):
        option, argv = argv[0], argv[1:]
        if option in ("-h", "--help"):
            argv = ["help", *argv]
        elif option in ("-V", "--version"):
            argv = ["version", *argv]
        elif option == "--socket" and argv:
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
    chosen = verb(name)
    given = parse(chosen, before + rest)
    if given.switch("help"):
        from ingle.cli.manual import page

        sys.stdout.write(page(chosen))
        return 0
    return chosen.run(given)
