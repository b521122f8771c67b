"""Where the two ends of the private link find each other, and what else they have in the runtime folder. Pure."""

import hashlib
import re
import signal
import struct
from pathlib import Path

FRAME_BYTES = 64 << 20
"""Most that one message of the private link may have."""

SECRET_FILE = "link.secret"
"""File of the runtime folder (mode 0600) with the start-up secret, in hex."""

WAITING_FILE = "waiting"
"""Requests that no worker holds yet, or a link to it: `broker/waiting_room.py`."""

STACKS_SIGNAL = signal.SIGUSR2
"""Has a process of a worker write the stacks of its threads to its log, whatever it is at; it goes on then."""
STACKS_S = 1.0
"""Seconds that this may take: then what hangs is ended."""

LOCK_FILE = "ingled.lock"
"""Held by the broker for as long as it lives."""

NURSERY_FILE = "nursery.pid"
"""Process id of the nursery, for the next broker."""

HOST_SLOTS = 64
"""Threads of a hook host."""

HOST_SLOT = struct.Struct("<QII")
"""What one of them is at, in the file `host_table`: number of the call, index of the hook, id of the thread."""

SOCKET_FILE = "link.sock"
"""The private socket, in the runtime folder (mode 0600)."""


def host_table(runtime: Path, pid: int) -> Path:
    """Return the file in which a hook host notes what each of its threads is at, for when it dies or hangs.

    `HOST_SLOTS` slots of 16 bytes, little-endian: the number of the call (8 bytes; 0: idle), the index of the hook
    within it (4), and the thread's id (4).
    """
    return runtime / "hosts" / f"{pid}.at"


def worker_log(runtime: Path, model: str) -> Path:
    """Return the log file of a model's worker; models whose names differ only in odd characters do not share one."""
    plain = re.sub("[^A-Za-z0-9._-]", "_", model)[:80]
    mark = "" if plain == model else f"-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return runtime / "logs" / f"worker-{plain}{mark}.log"
