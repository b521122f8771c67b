"""What a hook host may not: use all memory, or leave prompts behind in a core dump."""

import ctypes
import faulthandler
import resource

PR_SET_DUMPABLE = 4


def limit_memory(limit: int) -> None:
    """Let allocations beyond so many bytes fail: a plugin that eats memory gets a MemoryError, and the host lives.

    Counts what is written to and no file: heap and the stacks of threads. RLIMIT_AS would count reserved addresses as
    well, of which glibc takes 64 MiB for each thread.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def keep_secrets() -> None:
    """Leave no core dump, and let no other process of this user read the memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core_pattern that is a program gets the core in spite of the limit.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def tell_faults() -> None:
    """Write to stderr in which function and line the process died of a signal."""
    faulthandler.enable(all_threads=False)
