"""The file that says what each thread of a hook host is at: it outlives the host, and tells who brought it down."""

import contextlib
import mmap
import os
import struct
from pathlib import Path

from ingled import link

_CALL_AND_HOOK = struct.Struct("<QI")


class Table:
    """`HOST_SLOTS` slots in shared memory; writing one is no system call."""

    def __init__(self, runtime: Path, pid: int) -> None:
        self._path = link.host_table(runtime, pid)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        size = link.HOST_SLOT.size * link.HOST_SLOTS
        self._path.unlink(missing_ok=True)
        # Read by the broker, of whose account or group the folder is.
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            os.ftruncate(fd, size)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def slot(self, index: int, thread: int) -> "Slot":
        """Return a slot for the thread of this id, at nothing."""
        link.HOST_SLOT.pack_into(self._map, index * link.HOST_SLOT.size, 0, 0, thread)
        return Slot(self._map, index * link.HOST_SLOT.size)

    def remove(self) -> None:
        """Remove the file: this host ends in an orderly way."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class Slot:
    """What one thread is at."""

    __slots__ = ("_at", "_map")

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self._map, self._at = memory, at

    def note(self, call: int, hook: int) -> None:
        """Note a call, and the index of the hook within it."""
        _CALL_AND_HOOK.pack_into(self._map, self._at, call, hook)

    def clear(self) -> None:
        """Note that the thread is at nothing."""
        _CALL_AND_HOOK.pack_into(self._map, self._at, 0, 0)
