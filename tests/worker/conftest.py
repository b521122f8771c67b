"""A broker played by the test, and workers that do not outlive their test."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ingled.link import Spec
from ingled.testing_link import LinkBroker, group_members, start_worker

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime folder with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ig") as folder:
        yield Path(folder)


@pytest.fixture
def broker(runtime: Path) -> Iterator[LinkBroker]:
    with LinkBroker(runtime) as broker:
        yield broker


@pytest.fixture
def start(runtime: Path, broker: LinkBroker) -> Iterator[Start]:
    """Start a worker with the echo engine; the arguments are its options."""
    started: list[subprocess.Popen[bytes]] = []

    def run(**echo: Any) -> subprocess.Popen[bytes]:
        started.append(start_worker(runtime, Spec("m", "echo", "", echo=echo)))
        return started[-1]

    yield run
    for process in started:
        if group_members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
