"""A client in another language, written from docs/protocol.md alone, in under 100 lines."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture

CLIENT = Path(__file__).with_name("client.mjs")
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js (node)")


def node(daemon: DaemonFixture, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(NODE), str(CLIENT), str(daemon.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_short_and_stands_on_nothing() -> None:
    text = CLIENT.read_text()
    assert len(text.splitlines()) < 100
    imports = [line.split("from")[1].strip(" ;'\"") for line in text.splitlines() if line.startswith("import ")]
    assert all(name.startswith("node:") for name in imports)


def test_it_streams_an_answer(daemon: DaemonFixture) -> None:
    words = " ".join(f"wört🎉{i}" for i in range(500))
    done = node(daemon, words)
    assert (done.returncode, done.stdout.strip()) == (0, words)
    assert '"completion":500' in done.stderr


def test_it_tells_a_refusal(daemon: DaemonFixture) -> None:
    done = node(daemon, "--model", "parot", "x")
    assert done.returncode == 4
    assert "no_such_model" in done.stderr
    assert "did you mean 'parrot'?" in done.stderr
