"""One control group for all that is measured: what the kernel gives a process then depends on its priority alone."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_group() -> Iterator[bool]:
    """Have this process and its children be scheduled as one group; tells whether that could be done.

    Else each session has a group of its own, and as much as all processes of another together.
    """
    for root in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        group = root / f"ingle-bench-{os.getpid()}"
        try:
            group.mkdir()
            if not any((group / name).exists() for name in ("cpu.shares", "cpu.weight")):
                raise OSError("no groups for the scheduler")
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):
                for pid in (group / "cgroup.procs").read_text().split():
                    (root / "cgroup.procs").write_text(pid)
                group.rmdir()
        return
    yield False
