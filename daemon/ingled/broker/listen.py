"""The listening unix sockets: made by the daemon with their exact mode, or taken from systemd.

A plain ZeroMQ bind would delete whatever is at the path and steal a live daemon's socket, so the daemon binds by
itself, under a lock file.
"""

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingled.broker.descriptors import backlog


class CannotListen(RuntimeError):
    """The socket cannot be made; the text says why and what to do."""


def private_folder(path: Path) -> None:
    """Make a folder of mode 0700. Raises CannotListen when it is a link, somebody else's, or open to others."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as error:
        raise CannotListen(f"folder {path} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise CannotListen(f"{path} is not a folder (and a link is not followed); remove it")
    if status.st_uid != os.geteuid():
        raise CannotListen(f"folder {path} belongs to uid {status.st_uid}, not to us (uid {os.geteuid()})")
    if status.st_mode & 0o077:
        raise CannotListen(f"folder {path} is open to others; run `chmod 700 {path}`")


@contextmanager
def lock(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of a daemon, waiting so long for it. Raises CannotListen when another holds it."""
    deadline = time.monotonic() + seconds
    with path.open("a", encoding="ascii") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise CannotListen(
                        f"another ingled holds {path}; use it, take over from it with --replace, stop it with "
                        "`ingle shutdown`, or give another --socket"
                    ) from error
            time.sleep(0.005)
        yield


def being_made(path: Path) -> Path:
    """Return where a socket is until it listens: a name that is no longer than its own, for that may be the longest."""
    return path.with_name(("-" if path.name[0] == "~" else "~") + path.name[1:])


def listen(path: Path, mode: int) -> int:
    """Return the descriptor of a socket that listens at `path` with `mode`; the caller holds the daemon's lock.

    A dead daemon's socket is replaced, so that at no time nothing is there. Raises CannotListen when something else is
    there or somebody answers.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotListen(f"{path} exists and is not a socket; remove it or give another --socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            with contextlib.suppress(ConnectionRefusedError):
                probe.connect(str(path))
                raise CannotListen(f"something else listens at {path}; stop it or give another --socket")
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise CannotListen(f"{path} exists and cannot be asked: {error.strerror}") from error
    fresh = being_made(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    old = os.umask(0o777 & ~mode)
    try:
        if fresh.is_socket():
            fresh.unlink()
        server.bind(str(fresh))
        server.listen(backlog())
        fresh.rename(path)  # who comes meets the dead one until this one listens
    except OSError as error:
        server.close()
        raise CannotListen(f"cannot listen at {path}: {error.strerror or error}, while it was {fresh}") from error
    finally:
        os.umask(old)
    return server.detach()
