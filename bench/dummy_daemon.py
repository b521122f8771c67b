"""`ingled` with one rule lifted: a profile may say `load_format`, so that a model needs no weights."""

import sys

from ingled import __main__ as command
from ingled.config import profiles


def main() -> int:
    """Run the daemon."""
    vars(profiles)["RESERVED"] = tuple(key for key in profiles.RESERVED if key != "load_format")
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
