"""A nursery with the echo engine, and a broker played by the test."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled import link
from ingled.testing_link import LinkBroker, group_members, start_nursery


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime folder with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ig") as folder:
        yield Path(folder)


@pytest.fixture
def broker(runtime: Path) -> Iterator[LinkBroker]:
    with LinkBroker(runtime) as broker:
        yield broker
        for _, message in broker.seen:
            if isinstance(message, link.Forked) and group_members(message.pid):
                os.killpg(message.pid, signal.SIGKILL)


@pytest.fixture
def process(runtime: Path, broker: LinkBroker) -> Iterator[subprocess.Popen[bytes]]:
    process = start_nursery(runtime, "echo")
    yield process
    process.kill()
    process.wait(60)


@pytest.fixture
def nursery(process: subprocess.Popen[bytes], broker: LinkBroker) -> bytes:
    """The peer that is the nursery, when it is ready to fork."""
    while (got := broker.wait(link.Loading))[1].phase != "ready":
        pass
    return got[0]
