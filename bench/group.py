"""Control groups for what is measured: within one, what the kernel gives a process depends on its priority alone."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_group() -> Iterator[bool]:
    """Have this process and its children be scheduled as one group; tells whether that could be done.

    Else each session has a group of its own, and as much as all processes of another together.
    """
    with groups("all") as made:
        for group in made:
            join(group)
        yield bool(made)


@contextlib.contextmanager
def groups(*names: str) -> Iterator[list[Path]]:
    """Make groups side by side, each with as much as another; none where that may not be done.

    At the end this process and all others in them are back where groups begin.
    """
    for root in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        made = [root / f"ingle-bench-{os.getpid()}-{name}" for name in names]
        try:
            for group in made:
                group.mkdir()
                if not any((group / file).exists() for file in ("cpu.shares", "cpu.weight")):
                    raise OSError("no groups for the scheduler")
        except OSError:
            _remove(made, root)
            continue
        try:
            yield made
        finally:
            _remove(made, root)
        return
    yield []


def join(group: Path) -> None:
    """Move this process, and what it starts from now on, into a group."""
    (group / "cgroup.procs").write_text(str(os.getpid()))


def inside(group: Path) -> tuple[str, ...]:
    """Return what goes before a command that is to run in a group."""
    return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))


def _remove(made: list[Path], root: Path) -> None:
    for group in made:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(pid)
            group.rmdir()
