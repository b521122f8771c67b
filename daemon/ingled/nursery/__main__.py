"""`python -m ingled.nursery --runtime DIR --engine vllm|echo`: import the engine once, then fork workers.

`python -m ingled.nursery --check` reads specs as a JSON list and writes why the engine would refuse each, or null.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import msgspec

from ingled.link import Spec
from ingled.nursery.environment import set_environment
from ingled.nursery.nursery import Nursery


def main() -> int:
    """Run the nursery in this process."""
    parser = argparse.ArgumentParser(prog="ingled.nursery", description=__doc__)
    parser.add_argument("--runtime", type=Path, help="folder with the private socket and its secret")
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--socket", type=Path, help="the broker's public socket, removed if no broker comes back")
    parser.add_argument("--check", action="store_true", help="check the options of the specs on standard input")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    if arguments.runtime is None:
        parser.error("--runtime is required")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return Nursery(arguments.runtime.absolute(), arguments.engine, arguments.socket).run()


def check() -> int:
    """Check the options of specs, without loading anything."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the engine prints is not part of the answer
    specs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Spec])
    set_environment()
    from ingled.worker.catalog import check as why

    with answer:
        answer.write(msgspec.json.encode([why(spec) for spec in specs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
