"""How the C library keeps the memory of the nursery and of all that are forked from it."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

VARIABLE, BEFORE = "GLIBC_TUNABLES", "INGLE_GLIBC_TUNABLES_BEFORE"
GPUS = ("/dev/nvidiactl", "/dev/kfd")
SETTINGS = {
    "arena_max": 1,
    "tcache_count": 0,
    "mxfast": 0,
    "mmap_threshold": 32 << 20,
    "trim_threshold": 256 << 20,
}
"""Of glibc (`glibc.malloc.*`; decisions/0011). It gives threads heaps of 64 MiB each, and what does not fit into the
rest of one goes to the next: one heap for all has no such rests. It cuts every tensor out of a larger block, for its
alignment, and keeps what is left over in caches for small blocks: the tensor's place is too small for the next one of
its size by then. The next two do without these caches. By the others large blocks are mapped, and what is free at the
heap's end is given back, from fixed sizes on instead of those that it makes up meanwhile."""


def wanted(environ: Mapping[str, str]) -> str | None:
    """Return the variable's value for this environment; None: it has what it needs, or the operator's own."""
    own = environ.get(VARIABLE, "")
    if "glibc.malloc." in own:
        return None
    settings = (f"glibc.malloc.{name}={value}" for name, value in SETTINGS.items())
    return ":".join([*filter(None, [own]), *settings])


def settle() -> None:
    """Run this program anew with these settings, if it has not got them: the C library reads them at its start.

    Not where there is a GPU: what a model takes there is not in this heap. What is run by this program, such as a
    compiler, does without.
    """
    if (own := os.environ.pop(BEFORE, None)) is not None:  # this is the second time; it may not have been given them
        os.environ[VARIABLE] = own
        return
    value = wanted(os.environ)
    if value is None or any(map(os.path.exists, GPUS)) or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return
    environ = os.environ | {VARIABLE: value, BEFORE: os.environ.get(VARIABLE, "")}
    with suppress(OSError):  # it runs without, if it has to
        os.execve(sys.executable, sys.orig_argv, environ)
