"""Processes that outlive the broker that started them: whose a number is, and how they end."""

import contextlib
import os
import signal
from pathlib import Path


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


def ended_for_memory() -> int:
    """Return how many processes the kernel has ended for want of memory since it started, here or in any container."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
