"""The hooks of plugins/examples, each as its own process, called by a stand-in for the daemon."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "plugins/examples"
NODE = shutil.which("node")
HI = [{"role": "user", "content": "hi"}]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(ingle: Any, daemon: Any, folder: Path) -> Iterator[Start]:
    """Starts a command, with an `ingle` in its path, and waits until its hook is offered."""
    command = folder / "bin" / "ingle"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ingle "$@"\n')
    command.chmod(0o755)
    environment = ingle.environment | {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    started: list[subprocess.Popen[bytes]] = []

    def run(*argv: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL)
        started.append(process)
        daemon.wait_for("hook_offer")
        return process

    yield run
    for process in started:
        process.kill()
        process.wait(60)


def test_today(start: Start, daemon: Any) -> None:
    start(sys.executable, str(EXAMPLES / "today.py"))
    before = datetime.now().year
    first, second = daemon.hook_call("prompt", {"messages": HI})["value"]["messages"]
    assert any(str(year) in first["content"] for year in (before, datetime.now().year)), "also at the turn of the year"
    assert second == HI[0]
    assert "value" not in daemon.hook_call("prompt", {"messages": [{"role": "prompt", "content": "Once"}]})


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_plain(start: Start, daemon: Any, size: int) -> None:
    start(sys.executable, str(EXAMPLES / "plain.py"))
    text, out = "**Bold** and 2*3.\n***both*** **", ""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for seq, piece in enumerate([*pieces, ""]):
        reply = daemon.hook_call("chunk", {"text": piece}, seq=seq, last=seq == len(pieces))
        out += reply["value"]["text"] if "value" in reply else piece
    assert out == "Bold and 2*3.\n*both* "


def test_no_secrets(start: Start, daemon: Any) -> None:
    script = str(EXAMPLES / "no-secrets.sh")
    patient = ("--deadline-ms", "10000")  # the machine may be busy
    start("ingle", "hook", "run", "--point", "prompt", "--text", "--on-error", "refuse", *patient, "--", script)
    assert daemon.offers["no-secrets"]["on_error"] == "refuse"
    assert "verdict" not in daemon.hook_call("prompt", {"messages": HI})["results"][0]
    key = [{"role": "user", "content": "fix this:\n-----BEGIN OPENSSH PRIVATE KEY-----\nx"}]
    (result,) = daemon.hook_call("prompt", {"messages": key})["results"]
    assert (result["verdict"], result["reason"]) == ("refuse", "this prompt has a secret key in it")


@pytest.mark.skipif(NODE is None, reason="needs Node.js (node)")
def test_context(start: Start, daemon: Any) -> None:
    process = start(str(NODE), str(EXAMPLES / "context.mjs"))
    context = [{"kind": "diff", "text": "+x"}, {"kind": "file", "name": "a.py", "text": "y" * 9000}]
    about = {"account": "uid:0", "model": "tiny", "op": "chat", "stream": True, "client": "t", "tags": []}
    reply = daemon.hook_call("prompt", {"messages": HI, "call": about | {"context": context}})
    (message,) = reply["value"]["messages"]
    assert message["content"] == f'<diff>\n+x\n</diff>\n<file name="a.py">\n{"y" * 7998}\n</file>\n\nhi'
    assert daemon.hook_call("prompt", {"messages": HI})["results"][0]["verdict"] == "unchanged"
    daemon.restart()
    daemon.wait_for("hook_offer", 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert daemon.wait_for("hook_withdraw")["name"] == "show-context"


def test_the_readme_lists_them_all() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.name in ("README.md", "__pycache__") or f"`{path.name}`" in text
