"""`ingle version`: which ingle this is."""

from ingle import __version__
from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json, put


def run(given: Given) -> int:
    """Print the version."""
    from ingle.wire.limits import PROTOCOL

    if given.switch("json"):
        print_json({"name": "ingle", "version": __version__, "protocol": list(PROTOCOL)})
    else:
        put(f"ingle {__version__} (protocol {PROTOCOL[0]}.{PROTOCOL[1]})\n")
    return 0


VERB = Verb(
    "version",
    run,
    "Prints the version of this command and of the protocol that it speaks. `ingle status` says the daemon's.",
    options=(JSON,),
    examples=(("ingle version", "Which one is it?"),),
    alone=True,
)
