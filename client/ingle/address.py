"""Where the daemon's socket is. Only this file and the programs' entry points read the environment."""

import os
import stat

NAME = "ingle.sock"
SYSTEM = "/run/ingle"
"""Where the system's daemon keeps its socket."""
LONGEST = 107
"""Bytes that the path of a unix socket may have."""


def runtime_dir() -> str:
    """Return the folder where this user's own daemon keeps its socket; it need not exist."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return os.path.join(given, "ingle")
    user = os.getuid()
    if os.path.isdir(f"/run/user/{user}"):
        return f"/run/user/{user}/ingle"
    return _private_tmp(user)


def candidates() -> list[str]:
    """Return the paths where a daemon may listen, the most likely first."""
    folders = [runtime_dir(), _private_tmp(os.getuid()), SYSTEM]
    return [os.path.join(folder, NAME) for folder in dict.fromkeys(folders) if _may_trust(folder)]


def find(given: str | None = None) -> str:
    """Return the socket to connect to: the given one, `INGLE_SOCKET`, or the first candidate that exists.

    When none exists this is the first candidate, so that an error names the place where a daemon was
    expected.
    """
    named = given or os.environ.get("INGLE_SOCKET")
    if named:
        return named
    paths = candidates()
    return next((path for path in paths if os.path.exists(path)), paths[0])


def is_other(path: str) -> bool:
    """Return whether something stands there that is no socket: no daemon will ever answer at it."""
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _private_tmp(user: int) -> str:
    return f"/tmp/ingle-{user}"


def _may_trust(folder: str) -> bool:
    """Anybody can make a folder in /tmp before us, and would then read our prompts."""
    if folder != _private_tmp(os.getuid()):
        return True
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700
