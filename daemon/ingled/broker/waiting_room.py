"""Requests that no worker holds yet, in a file in memory, so that they outlive a daemon that is killed or replaced.

They wait for a load, for memory or for a hook; whoever is given to a worker leaves. Each change is one record behind
the others, so that it costs one write, and whatever was written before a death can be read. Prompts never come to a
disk: the file is in the runtime folder only where that is memory, as below /run, and else in /dev/shm, with a link to
it. Where no daemon comes, the nursery removes it.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from ingled.link import WAITING_FILE, Held
from ingled.remains import FRESH, SHARED

log = logging.getLogger(__name__)

MOST_BYTES = 64 << 20
"""Most bytes of requests in it; those beyond are only in the daemon, and their clients ask them again after a death."""
FILE_BYTES = 2 * MOST_BYTES
"""Size at which the file is written anew with those that are still there."""
LIVES = 3
"""How many daemons a request outlives: it may be what kills them."""
HEAD = 4
"""Bytes before each record: its length."""


class Waits(Struct, frozen=True):
    """A request in the room."""

    account: str
    held: Held
    text: list[tuple[int, int, bytes]]
    """What an earlier worker made of its answer, and its reader has not confirmed: offset, size and message of each
    chunk.
    """
    filtering: bool
    """It was with its hooks, and goes its whole way past them again; what a filter has answered, from there on."""
    lives: int = 0
    """How many daemons it has outlived."""

    @property
    def uid(self) -> int:
        """Return whose it is."""
        return int(self.account.removeprefix("uid:"))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Waits | str).decode


class WaitingRoom:
    """The file, and who is in it."""

    def __init__(self, runtime: Path) -> None:
        """Open it; where that cannot be, nobody is kept, and the log says why."""
        self._sizes: dict[str, int] = {}
        self._lives: dict[str, int] = {}
        self._bytes = self._end = 0
        self.path = self._known_as = runtime / WAITING_FILE
        self._fd: int | None = None
        try:
            if not _in_memory(runtime):
                name = hashlib.sha256(str(runtime.resolve()).encode()).hexdigest()[:16]
                self.path = SHARED / f"ingle-{os.geteuid()}-{name}"
                self._known_as.unlink(missing_ok=True)
                self._known_as.symlink_to(self.path)
            self._fd = _open(self.path)
            self._fresh.unlink(missing_ok=True)  # of a daemon that died as it wrote
            self._cut(sum(HEAD + len(data) for data in self._records()))  # a record of which only a part is there
        except OSError as error:
            log.warning("requests that wait are lost if the daemon dies: %s: %s", self.path, error.strerror or error)

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(self.path.name + FRESH)

    def enter(self, one: Waits) -> None:
        """Keep a request, or keep it as it is by now."""
        id = one.held.id
        before = self._sizes.get(id, 0)
        data = _encode(msgspec.structs.replace(one, lives=self._lives.get(id, 0)))
        if self._fd is not None and self._bytes - before + len(data) <= MOST_BYTES and self._append(data):
            self._sizes[id] = len(data)  # the later record counts: at no time is there none
            self._bytes += len(data) - before
        else:
            self._remove(id)

    def leave(self, id: str) -> None:
        """A worker has it, or it is over; nothing happens when it is not here."""
        self._lives.pop(id, None)
        self._remove(id)

    def _remove(self, id: str) -> None:
        size = self._sizes.pop(id, None)
        if size is None or self._fd is None:
            return
        self._bytes -= size
        if not self._sizes:
            self._cut(0)
        else:
            self._append(_encode(id))

    def take_over(self) -> list[Waits]:
        """Return whom an earlier daemon has left here. They stay until they leave: should this daemon die too before
        it has done anything with them, the next one finds them, and how many it were.
        """
        found = list(self._read())
        self._sizes = {one.held.id: len(_encode(one)) for one in found}
        self._bytes = sum(self._sizes.values())
        out = []
        for one in found:
            id = one.held.id
            if one.lives >= LIVES:
                log.error(
                    "request %s has outlived %d daemons while it waited: it may be the cause, and ends", id, LIVES
                )
                self.leave(id)
            else:
                self._lives[id] = one.lives + 1
                self.enter(one)
                out.append(one)
        return out

    def close(self, *, remove: bool) -> None:
        """Let go of the file; `remove`: nobody comes after this daemon."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            if remove:
                self.path.unlink(missing_ok=True)
                self._known_as.unlink(missing_ok=True)

    def _read(self) -> Iterator[Waits]:
        """Return those who have entered and not left, oldest first; what is cut off at the end is left out."""
        found: dict[str, Waits] = {}
        for data in self._records():
            try:
                record = _decode(data)
            except ValueError as error:  # another release's
                log.error("%s has a request that cannot be read: %s", self.path, error)
                continue
            if isinstance(record, str):
                found.pop(record, None)
            else:
                found[record.held.id] = record
        yield from found.values()

    def _records(self) -> Iterator[bytes]:
        if self._fd is None:
            return
        at = 0
        while len(head := os.pread(self._fd, HEAD, at)) == HEAD:
            size = int.from_bytes(head, "big")
            data = os.pread(self._fd, size, at + HEAD)
            if len(data) < size:
                return
            at += HEAD + size
            yield data

    def _append(self, data: bytes) -> bool:
        """Write a record at the end, and return whether it is there."""
        if self._end > FILE_BYTES:
            self._write_anew()
        return self._write(data)

    def _write_anew(self) -> None:
        """Leave out of the file what has no meaning any more; should we die meanwhile, the one before is whole."""
        whole = b"".join(map(_record, map(_encode, self._read())))
        try:
            fd = _replace(self.path, self._fresh, whole)
        except OSError as error:
            log.error("%s cannot be written anew: %s", self.path, error.strerror or error)
            return
        assert self._fd is not None, "it is open"
        os.close(self._fd)
        self._fd, self._end = fd, len(whole)

    def _write(self, data: bytes) -> bool:
        """Write a record; what could be written of it in part only is cut off again."""
        assert self._fd is not None, "it is open"
        record = _record(data)
        try:
            written = os.pwrite(self._fd, record, self._end)
        except OSError as error:
            log.error("%s: %s; a request is not kept for the next daemon", self.path, error.strerror)
            written = 0
        if written < len(record):
            self._cut(self._end)
            return False
        self._end += written
        return True

    def _cut(self, size: int) -> None:
        if self._fd is not None:
            os.ftruncate(self._fd, size)
            self._end = size


def _record(data: bytes) -> bytes:
    return len(data).to_bytes(HEAD, "big") + data


def _replace(path: Path, fresh: Path, data: bytes) -> int:
    """Replace a file by way of a fresh one, and return its descriptor. After an OSError it is as it was."""
    fd = _open(fresh)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(fd)
        fresh.rename(path)
    except OSError:
        os.close(fd)
        fresh.unlink(missing_ok=True)
        raise
    return fd


def _open(path: Path) -> int:
    """Open our own file of mode 0600, made if it is not there. Raises OSError when it is a link or somebody else's."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        os.close(fd)
        raise PermissionError(f"it is not a file of uid {os.geteuid()} alone")
    return fd


def _in_memory(folder: Path) -> bool:
    """Return whether a folder is on a file system that is memory."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] in ("tmpfs", "ramfs")
    return False
