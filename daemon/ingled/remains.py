"""What the killed leave behind: a worker its folder and the memory its processes shared, a broker who waits."""

import contextlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from ingled.link import WAITING_FILE

log = logging.getLogger(__name__)

SHARED = Path("/dev/shm")
FRESH = ".new"
"""Is added to the name of the file of those who wait while it is written anew."""
LIST = "shared"
"""File in a worker's folder: names of what it has in /dev/shm."""


def note(folder: Path, pids: Iterable[int]) -> None:
    """Write down what these processes share, so that whoever buries them finds it."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines():
                path = Path(line.split(maxsplit=5)[-1])
                if path.parent == SHARED and path.exists():
                    found.add(path.name)
    if found:
        try:
            (folder / LIST).write_text("\n".join(sorted(found)), errors="surrogateescape")
        except OSError as error:  # as of a full disk: the model can serve all the same
            log.warning("what this worker has in %s is not written down: %s", SHARED, error)


def remove(folder: Path) -> None:
    """Remove a worker's folder, and what it has written down; nothing happens where it is gone already."""
    with contextlib.suppress(OSError):
        for name in (folder / LIST).read_text(errors="surrogateescape").splitlines():
            (SHARED / Path(name).name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_waiting(runtime: Path) -> None:
    """Remove the file of requests that wait, which may be elsewhere, where memory is, with a link to it here."""
    file = runtime / WAITING_FILE
    there = file.resolve()
    file.unlink(missing_ok=True)
    for one in (there, there.with_name(there.name + FRESH)):
        one.unlink(missing_ok=True)
