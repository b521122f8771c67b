"""The daemon as it would be without turns: every request goes to the engine at once, which takes them as they came.

Models need no weights here, as in `bench.dummy_daemon`.
"""

import sys

from ingled.core import control
from ingled.core.fairness import Turns

from bench import dummy_daemon


def main() -> int:
    """Run it."""
    opened = Turns.open
    Turns.open = lambda self, now, places: opened(self, now, 0)  # type: ignore[method-assign]
    vars(control)["order"] = lambda asked, of: 0
    return dummy_daemon.main()


if __name__ == "__main__":
    sys.exit(main())
