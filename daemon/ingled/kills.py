"""How many processes the kernel has ended for want of memory, by its own count: in a control group, or in all."""

import contextlib
from pathlib import Path

from ingled.machine import places

MACHINE = "proc/vmstat"
FILES = {"memory.max": ("memory.events.local", "memory.events"), "memory.limit_in_bytes": ("memory.oom_control",)}
"""Where the count of a group stands, by version of control groups: its own, before one that has those below it too.

Whoever ran out of memory (the group, one above it, the machine), the end of a process is counted in its own group.
"""


def counter(pid: int, root: Path = Path("/")) -> Path:
    """Return the file that counts for the group of a process; where none does, or it has gone, that of the machine."""
    with contextlib.suppress(OSError):
        groups = (root / "proc" / str(pid) / "cgroup").read_text()
        for folder, limit_file, _, _ in places(groups, root):
            for name in FILES[limit_file]:
                if _read(folder / name) is not None:
                    return folder / name
    return root / MACHINE


def count(path: Path) -> int:
    """Return how many have been ended so far, by the file that counts."""
    return _read(path) or 0


def _read(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None
