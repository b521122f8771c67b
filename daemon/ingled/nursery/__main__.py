"""`python -m ingled.nursery --runtime DIR --engine vllm|echo`: import the engine once, then fork workers."""

import argparse
import sys
from pathlib import Path

from ingled import journal
from ingled.nursery import heap
from ingled.nursery.nursery import Nursery


def main() -> int:
    """Run the nursery in this process."""
    heap.settle()
    parser = argparse.ArgumentParser(prog="ingled.nursery", description=__doc__)
    parser.add_argument("--runtime", type=Path, required=True, help="folder with the private socket and its secret")
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--socket", type=Path, help="the broker's public socket, removed if no broker comes back")
    arguments = parser.parse_args()
    journal.configure("INFO", "ingle-nursery", "%(asctime)s %(levelname)s %(name)s: %(message)s")
    return Nursery(arguments.runtime.absolute(), arguments.engine, arguments.socket).run()


if __name__ == "__main__":
    sys.exit(main())
