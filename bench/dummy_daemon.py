"""`ingled` with one rule lifted: a profile may say `load_format`, so that a model needs no weights."""

import sys

from ingled import __main__ as command
from ingled import config


def main() -> int:
    """Run the daemon."""
    vars(config)["RESERVED"] = tuple(key for key in config.RESERVED if key != "load_format")
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
