"""A daemon with the echo engine for the module: what it serves is known beforehand, and it starts in a moment."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)  # some tests are short runs of what is in bench/

CONFIG = """
[daemon]
keep = 30

[models.echo]
source = "builtin:ember"
default = true
preload = true
aliases = ["parrot"]

[models.slow]
source = "builtin:ember"
echo = {delay_ms = 5}

[models.broken]
source = "builtin:ember"
echo = {fail = "load"}

[models.dying]
source = "builtin:ember"
echo = {fail = "exit", fail_at = 3}

[models.small]
source = "builtin:ember"
context = 64
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(CONFIG) as running:
        yield running
