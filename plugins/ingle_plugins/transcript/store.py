"""Files of lines, one for each account, in a folder that only its owner can look into.

Every file is opened below the folder's own descriptor and never through a symbolic link, so that nobody can make the
daemon write or delete somewhere else. Two processes may append to the same folder: while plugins are reloaded, they do.
"""

import fcntl
import os
import re
import stat
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock
from time import gmtime, strftime, strptime
from typing import NamedTuple
from urllib.parse import quote

_ASIDE = re.compile(r"[\w%~-]+\.(\d{8}T\d{6}Z)(?:\.\d+)?\.jsonl")
"""Names of files that were put aside: only these are ever deleted."""

_STAMP = "%Y%m%dT%H%M%SZ"
_CLEAN_EVERY = 3600.0
_WARN_EVERY = 60.0
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Unsafe(Exception):
    """A folder or file is not as it must be; nothing is written there."""


class Limits(NamedTuple):
    """When files are put aside and deleted: bytes, seconds, seconds, bytes; and when the disk must hold them."""

    rotate_bytes: int
    rotate_seconds: float
    keep_seconds: float
    keep_bytes: int
    sync: str


class Store:
    """The folder of the transcripts."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._lock = Lock()
        self._lost = 0
        self._warned = -_WARN_EVERY
        self._cleaned = 0.0

    @property
    def lost(self) -> int:
        """Return how many lines were lost since the last that was written."""
        return self._lost

    def lose(self, now: float) -> int:
        """Count a line that was lost; returns the number so far where it is time to say so, else 0."""
        with self._lock:
            self._lost += 1
            if 0 <= now - self._warned < _WARN_EVERY:
                return 0
            self._warned = now
            return self._lost

    def probe(self) -> None:
        """Make the folder if it is not there, and raise Unsafe where it cannot be used."""
        try:
            with self._open():
                pass
        except OSError as error:
            raise Unsafe(f"{self._folder}: {error.strerror}") from None

    def append(self, account: str, line: bytes, now: float) -> None:
        """Write a line to an account's file: all of it, or nothing. Raises OSError or Unsafe."""
        name = f"{_stem(account)}.jsonl"
        with self._lock, self._open() as folder:
            self._rotate(folder, name, now)
            with _file(folder, name) as file:
                _write(file, line)
                if self._limits.sync == "line":
                    os.fsync(file)
            self._lost = 0
            if not 0 <= now - self._cleaned < _CLEAN_EVERY:
                self._cleaned = now
                self._clean(folder, now)

    @contextmanager
    def _open(self) -> Iterator[int]:
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(folder)
            if status.st_uid != os.geteuid():
                raise Unsafe(f"{self._folder}: belongs to somebody else (uid {status.st_uid})")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise Unsafe(f"{self._folder}: others can look into it (mode {mode:04o}); chmod 700 {self._folder}")
            yield folder
        finally:
            os.close(folder)

    # ---- putting aside and deleting

    def _rotate(self, folder: int, name: str, now: float) -> None:
        """Put a file aside that is too large or too old."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode):
            return  # whoever opens it says so
        begun = _begun(folder, name) or status.st_mtime
        if not status.st_size or (
            status.st_size < self._limits.rotate_bytes and 0 <= now - begun < self._limits.rotate_seconds
        ):
            return
        with _file(folder, name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another process is at it
            try:
                there = os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
            except FileNotFoundError:
                there = None
            if os.fstat(file).st_ino != there:
                return  # another process has done it
            if self._limits.sync != "never":
                os.fsync(file)
            os.rename(name, self._free_name(folder, name, now), src_dir_fd=folder, dst_dir_fd=folder)
        self._clean(folder, now)

    @staticmethod
    def _free_name(folder: int, name: str, now: float) -> str:
        stem = f"{name.removesuffix('.jsonl')}.{strftime(_STAMP, gmtime(now))}"
        taken = set(os.listdir(folder))
        names = (f"{stem}{f'.{n}' if n else ''}.jsonl" for n in range(len(taken) + 1))
        return next(name for name in names if name not in taken)

    def _clean(self, folder: int, now: float) -> None:
        """Delete files that were put aside long enough ago, and the oldest where there is too much."""
        aside: list[tuple[float, str, int]] = []
        for name in os.listdir(folder):
            with suppress(OSError, ValueError):  # a name with a date that does not exist is none of ours
                if match := _ASIDE.fullmatch(name):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        aside.append((timegm(strptime(match[1], _STAMP)), name, status.st_size))
        total = 0
        for when, name, size in sorted(aside, reverse=True):
            total += size
            if now - when > self._limits.keep_seconds or total > self._limits.keep_bytes:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)


def _stem(account: str) -> str:
    """Return an account as a file's name, in which a dot only stands before what is added to it."""
    name = quote(account, safe="").replace(".", "%2E")
    return name if len(name) <= 128 else f"{name[:96]}~{sha256(account.encode(errors='replace')).hexdigest()[:24]}"


@contextmanager
def _file(folder: int, name: str) -> Iterator[int]:
    """Open a file of our own to append to it."""
    try:
        file = os.open(name, _OPEN, 0o600, dir_fd=folder)
    except OSError as error:
        raise Unsafe(f"{name}: {error.strerror}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
            raise Unsafe(f"{name}: is not a file of its own")
        if status.st_mode & 0o077:
            os.fchmod(file, 0o600)
        yield file
    finally:
        os.close(file)


def _write(file: int, line: bytes) -> None:
    """Append a line; where the disk takes only a part of it, that part is taken back."""
    before = os.fstat(file).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        if written:
            with suppress(OSError):
                if os.fstat(file).st_size == before + written:  # nobody has written behind it
                    os.ftruncate(file, before)
        raise


def _begun(folder: int, name: str) -> float | None:
    """Return when the first line of a file was written, as the line says."""
    with suppress(OSError, ValueError):
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        try:
            match = re.match(rb'\{"time":"([0-9T:.-]{19,23})Z"', os.read(file, 64))
        finally:
            os.close(file)
        if match is not None:
            return datetime.fromisoformat(f"{match[1].decode()}+00:00").timestamp()
    return None
