"""For tests: files that processes have left in folders that everybody uses, told from those of others."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

SHARED = (Path("/dev/shm"), Path("/tmp"))
NAMES = re.compile(r"(?i:vllm|psm_|sem\.|pymp-|gloo|nccl|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$)")
"""How vLLM, torch and Python's multiprocessing call what they do not remove when they are killed."""


def shared_files(folders: Iterable[Path] = SHARED) -> set[str]:
    """Return the files of this user with such names."""
    found = set()
    for folder in folders:
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # it has gone meanwhile
                if NAMES.match(path.name) and path.lstat().st_uid == os.getuid():
                    found.add(str(path))
    return found


def abandoned(folders: Iterable[Path] = SHARED) -> set[str]:
    """Return those that no living process has in its memory: whoever made them has ended, or is about to use them."""
    found, used = shared_files(folders), set[str]()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            used.update(line.split(maxsplit=5)[-1].strip() for line in maps.read_text().splitlines())
    return found - used
