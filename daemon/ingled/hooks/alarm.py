"""A timer that makes a descriptor readable: setting it is one system call, and no thread wakes for one that is cleared.

Python has it from 3.13 on (`os.timerfd_create`).
"""

import ctypes
import os
import time

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Times(ctypes.Structure):
    """`struct itimerspec`: the interval, and the time until it goes off, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "in_s", "in_ns")]


class Alarm:
    """Goes off once, so many seconds after it was set, unless it is cleared or set again before."""

    def __init__(self, seconds: float) -> None:
        library = ctypes.PyDLL(None)  # the calls are too short to let go of the interpreter lock for them
        self.fd: int = library.timerfd_create(time.CLOCK_MONOTONIC, _FLAGS)
        """Can be read when it has gone off, until it is set again or cleared."""
        if self.fd < 0:
            raise OSError("timerfd_create failed")
        self._settime = library.timerfd_settime
        self._set = ctypes.byref(_Times(0, 0, int(seconds), int(seconds % 1 * 1e9)))
        self._clear = ctypes.byref(_Times(0, 0, 0, 0))

    def set(self) -> None:
        """Set it, or set it anew."""
        self._settime(self.fd, 0, self._set, None)

    def clear(self) -> None:
        """Let it not go off."""
        self._settime(self.fd, 0, self._clear, None)
