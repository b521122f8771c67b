"""`python -m ingle_plugins.provenance keygen PATH`: make the key that signs records."""

import sys

from ingle_plugins.provenance.keys import WrongKey, load, make

USAGE = """\
usage: python -m ingle_plugins.provenance keygen PATH    make a private key, and its public half in PATH.pub
       python -m ingle_plugins.provenance public PATH    print the public half of a private key
"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    match argv:
        case ["keygen" | "public" as verb, path]:
            try:
                public = make(path) if verb == "keygen" else load(path).public
            except WrongKey as error:
                print(f"provenance: {error}", file=sys.stderr)
                return 1
            print(public)
            return 0
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case _:
            print(USAGE, end="", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
