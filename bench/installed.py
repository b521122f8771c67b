"""Daemons as they run where they are installed: Python finds what it has compiled of them.

In a checkout with PYTHONDONTWRITEBYTECODE, each start compiles all modules anew: half of the CPU until it listens.
"""

from ingled.testing import DaemonFixture


def as_installed(daemon: DaemonFixture) -> DaemonFixture:
    """Have a daemon keep what is compiled, from its first start on; returns it."""
    daemon.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return daemon
