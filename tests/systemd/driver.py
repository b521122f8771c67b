"""Runs inside the box: a client whose stream goes on while systemd's daemon is killed in one way or another."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from ingle import Client
from ingled.testing import Wire

SOCKET = "/run/ingle/ingle.sock"
TEXT = " ".join(f"word{i}" for i in range(1500))


def systemctl(*arguments: str) -> str:
    """Run systemctl; returns what it printed."""
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def pids() -> tuple[Any, Any, Any]:
    """Return the process ids of broker, nursery and worker."""
    with Wire(SOCKET) as client:
        status = client.call("status")
        return status["daemon"]["pid"], status["nursery"]["pid"], client.call("models")["models"][0]["pid"]


def outlive(what: Callable[[], object]) -> None:
    """Start a stream, do something to the service, and read the stream to its end."""
    with Client(SOCKET, timeout=60) as client:
        stream = client.chat(TEXT, stream=True, max_tokens=1500)
        head = next(iter(stream)).text
        before = pids()
        begin = time.monotonic()
        what()
        text = head + "".join(delta.text for delta in stream)
    assert text == TEXT, (len(text), len(TEXT))
    after = pids()
    print(f"broker {before[0]} -> {after[0]}, nursery {before[1]} -> {after[1]}, worker {before[2]} -> {after[2]}, "
          f"{time.monotonic() - begin:.1f} s", flush=True)  # fmt: skip
    assert before[2] == after[2], "the worker is the same"


def main() -> None:
    """Do the step that is named."""
    broker, nursery, _ = pids()
    match sys.argv[1]:
        case "kill":
            outlive(lambda: subprocess.run(["kill", "-KILL", str(broker)], check=True))
            assert pids()[:2] == (pids()[0], nursery)
            assert pids()[0] != broker
        case "nursery":
            outlive(lambda: subprocess.run(["kill", "-KILL", str(nursery)], check=True))
        case "hang":
            outlive(lambda: subprocess.run(["kill", "-STOP", str(broker)], check=True))
            assert pids()[0] != broker
    print("restarts", systemctl("show", "-p", "NRestarts", "--value", "ingled"))


if __name__ == "__main__":
    main()
