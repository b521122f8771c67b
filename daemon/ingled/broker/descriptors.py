"""How many connections there may be: as many as a third of the process's file descriptors."""

import os
import resource


def backlog() -> int:
    """Return how many connections may wait to be accepted."""
    return int(min(1024, _limit() // 4))


def crowded() -> bool:
    """Return whether so many file descriptors are in use that no more connections may be accepted."""
    try:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(fd)
    return many(fd)


def many(fd: int) -> bool:
    """Return what `crowded` does, by a descriptor that is new: the kernel gives the lowest free number."""
    return fd > _limit() // 3


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
