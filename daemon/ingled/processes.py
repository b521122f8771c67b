"""Processes that outlive the broker that started them: whose a number is, and how they end."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from ingled.link import STACKS_SIGNAL


def runs(pid: int, module: str) -> bool:
    """Return whether this process runs a module of ours, and is not another one that got its number."""
    try:
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def kill_group(pid: int) -> None:
    """Kill a process and all that it started; it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def exit_words(status: int) -> str:
    """Return, for people, how a child of `subprocess` ended."""
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


def show_stacks(pid: int) -> None:
    """Have all processes of a worker's group write their stacks to its log, those too that have been stopped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, STACKS_SIGNAL)
        os.killpg(pid, signal.SIGCONT)


def start_host(runtime: Path, group: str) -> "subprocess.Popen[bytes]":
    """Start a hook host for a group of plugins; its output goes to `host_log`. Raises OSError."""
    folder, log = runtime / "hosts", host_log(runtime)
    for one in (folder, log.parent):
        one.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-P", "-m", "ingled.hooks", "--runtime", str(runtime), "--name", group]
    with log.open("ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=folder
        )


def host_log(runtime: Path) -> Path:
    """Return the log of all hook hosts."""
    return runtime / "logs" / "hooks.log"
