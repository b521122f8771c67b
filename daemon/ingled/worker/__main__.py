"""`python -m ingled.worker plan`: say what models would take, without loading them.

Reads specs (`ingled.link.Spec`) as a JSON list from standard input and writes for each an `ingled.link.Planned` to
standard output: why the engine refuses its options, or how much memory it will take, by part.
"""

import argparse
import os
import sys

import msgspec

from ingled.link import Planned, Spec
from ingled.worker.catalog import plan
from ingled.worker.environment import set_environment


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="ingled.worker", description=__doc__)
    parser.add_argument("command", choices=["plan"])
    parser.parse_args()
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the engine prints is not part of the answer
    try:
        specs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Spec])
    except ValueError as error:
        print(f"ingled.worker: standard input is no list of specs: {error}", file=sys.stderr)
        return 2
    set_environment()
    found: list[Planned] = [plan(spec, ref) for ref, spec in enumerate(specs)]
    with answer:
        answer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
