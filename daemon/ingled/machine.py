"""The memory of this machine: how much there is, how much is free, and what control groups leave of it."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HEAD_ROOM_PART = 20
"""One part in so many is left to others, if nothing is configured."""
HEAD_ROOM_LEAST = 512 << 20

V1_NONE = 1 << 62
"""What a control group of version 1 without limit says is about this."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes."""

    total: int
    """Of the machine, or of the control group if that has less."""
    free: int
    """What a new process could have, page cache that can be dropped included."""
    group: str = ""
    """The control group that has the limit, if one has."""

    def budget(self, taken: int, said: int | None, head_room: int | None, coming: int = 0) -> int:
        """Return what models may take together, when those that are there have `taken`.

        `said` is configured, and for models alone; `head_room` is what others are left; `coming` is what the daemon
        has yet to take for itself: what it has is not free.
        """
        room = max(0, self.free + taken - coming - (self.head_room if head_room is None else head_room))
        return room if said is None else min(room, said)

    def most(self, said: int | None, head_room: int | None, daemon: int = 0) -> int:
        """Return what models might take together at best, if others took no more than what they are left.

        `daemon` is what its own processes keep: no model will ever have that.
        """
        room = max(0, self.total - daemon - (self.head_room if head_room is None else head_room))
        return room if said is None else min(room, said)

    def missing(self, head_room: int | None) -> int:
        """Return by how many bytes others are left less than they should be; 0 or less when they are not."""
        return (self.head_room if head_room is None else head_room) - self.free

    @property
    def head_room(self) -> int:
        """Return what is left to others, if nothing is configured."""
        return max(HEAD_ROOM_LEAST, self.total // HEAD_ROOM_PART)


def read(pid: int | None = None, root: Path = Path("/")) -> Memory:
    """Return the memory that a process (None: this one) and its children can have. Raises OSError."""
    sizes = meminfo((root / "proc/meminfo").read_text())
    total, free, name = sizes["MemTotal"], sizes["MemAvailable"], ""
    with contextlib.suppress(OSError):
        groups = _groups(root / "proc" / ("self" if pid is None else str(pid)))
        for folder, limit_file, used_file, stat_key in places(groups, root):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is None or used is None or limit >= min(total, V1_NONE):
                continue
            left = max(0, limit - used + _stat(folder / "memory.stat", stat_key))
            total, name = limit, str(folder)
            free = min(free, left)
    return Memory(total, free, name)


def kept(pids: Iterable[int], memory: Memory, root: Path = Path("/")) -> int:
    """Return what these processes have of a memory that does not come back while they live; 0 of those elsewhere."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            folder = root / "proc" / str(pid)
            if memory.group and Path(memory.group) not in [place[0] for place in places(_groups(folder), root)]:
                continue
            sizes = _sizes((folder / "status").read_text())
            total += sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)  # pages of files can be dropped
    return total


def _groups(folder: Path) -> str:
    return (folder / "cgroup").read_text()


def meminfo(text: str) -> dict[str, int]:
    """Return the sizes of `/proc/meminfo`, in bytes; older kernels do not say what is available."""
    found = _sizes(text)
    found.setdefault("MemAvailable", found.get("MemFree", 0))
    return found


def _sizes(text: str) -> dict[str, int]:
    """Return what has a number of lines `NAME: NUMBER kB`."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def places(groups: str, root: Path) -> list[tuple[Path, str, str, str]]:
    """Return where limits of memory may stand, for the lines of `/proc/PID/cgroup`: folder, its files, key of cache."""
    found = []
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        found += [(top.joinpath(*parts[:depth]), *names) for depth in range(len(parts), -1, -1)]
    return found


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())  # "max" is no limit
    return None


def _stat(path: Path, key: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def saves_gpus(root: Path = Path("/")) -> bool:
    """Return whether the driver saves what is in the memory of NVIDIA GPUs while the machine is suspended."""
    with contextlib.suppress(OSError):
        lines = (root / "proc/driver/nvidia/params").read_text().splitlines()
        return "PreserveVideoMemoryAllocations: 1" in (line.strip() for line in lines)
    return False


def shared_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Return size and free space of `/dev/shm`, in bytes. Raises OSError."""
    found = os.statvfs(root / "dev/shm")
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
