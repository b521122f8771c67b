"""How the C library keeps the memory of the nursery and of all that are forked from it."""

import os
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
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
    """Run this program anew with these settings, if it has not got them: the C library reads them at its start."""
    value = wanted(os.environ)
    if value is not None and "CS_GNU_LIBC_VERSION" in os.confstr_names:
        os.environ[VARIABLE] = value
        os.execv(sys.executable, sys.orig_argv)
