"""The `ingle` command: one verb a file, each imported only when it is asked for, so that a verb starts
fast.
"""

import sys

from ingle.cli.grammar import Usage, Verb, parse

VERBS = {
    "ask": "ask a model, and print its answer as it comes",
    "embed": "make vectors of texts, with an embedding model",
    "attach": "read the answer of a request that was started elsewhere",
    "ps": "list the models in memory and what they do",
    "models": "list the models that can be asked",
    "show": "print all that is known of a model",
    "status": "print how the daemon is",
    "whoami": "print which account you are, and what you may do",
    "requests": "list your requests",
    "cancel": "end a request",
    "load": "make a model warm",
    "plan": "say whether a model would fit, and do nothing",
    "unload": "free a model's memory",
    "sleep": "have a model give memory back without unloading it",
    "wake": "wake a model that sleeps",
    "pin": "keep a model in memory",
    "unpin": "let a model make room for others again",
    "want": "say that a model will be asked soon",
    "yield": "have idle models give their memory back",
    "events": "print what happens in the daemon, as it happens",
    "doctor": "say what is wrong here, and what to do about it",
    "verify": "say whether a text is as a model wrote it, and which",
    "hooks": "list, test and trace what takes part in requests",
    "hook": "run a program at each request: filter, guard, observer",
    "rpc": "speak the protocol as JSON lines, for editors and scripts",
    "logs": "print what the daemon has logged",
    "reload": "have the daemon read its configuration anew",
    "config": "show the daemon's settings, or check a file",
    "completion": "print a script that makes a shell complete ingle's command lines",
    "shutdown": "end the daemon once its requests have ended",
    "version": "print the version of this command",
    "help": "print the manual",
}
"""Each verb and what it does, in the order of `ingle help`: told here, so that telling it imports none of them."""


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
