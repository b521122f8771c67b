"""A hook host as a real process, plugins as files, and a broker played by the test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled.testing_link import HostBench, LinkBroker


@pytest.fixture
def bench() -> Iterator[HostBench]:
    with tempfile.TemporaryDirectory(prefix="ig") as name:
        (Path(name) / "plugins").mkdir()
        with LinkBroker(Path(name)) as broker:
            bench = HostBench(Path(name), broker, Path(name) / "plugins")
            yield bench
            bench.end()
