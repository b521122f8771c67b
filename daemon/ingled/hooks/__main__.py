"""`python -m ingled.hooks --runtime DIR [--name GROUP]`: run plugins for the broker that listens there.

`python -m ingled.hooks --check` reads a packed Setup, writes the packed Offers, and ends with 1 if one has a problem.
"""

import argparse
import logging
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    """Run a hook host in this process."""
    parser = argparse.ArgumentParser(prog="ingled.hooks", description=__doc__)
    parser.add_argument("--runtime", type=Path, help="folder with the private socket and its secret")
    parser.add_argument("--name", default="main", help="of this host, for the log")
    parser.add_argument("--check", action="store_true", help="check the plugins of the Setup on standard input")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(process)d: %(message)s")
    if arguments.check:
        from ingled.hooks.check import check

        check()
    if arguments.runtime is None:
        parser.error("--runtime is required")
    from ingled.hooks.host import Host

    Host(arguments.runtime.absolute(), arguments.name).run()


if __name__ == "__main__":
    main()
