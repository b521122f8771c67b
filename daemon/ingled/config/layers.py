"""The files of the configuration, one laid over the other: the machine's, its drop-ins, then the user's.

A later file's keys win, table by table; a list, such as `rules`, comes whole from the last file that has it. What comes
out says for each key which file it is from.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MACHINE = Path("/etc/ingle")
NAME = "ingled.toml"
DROP_INS = "ingled.d"

Table = dict[str, Any]


class Unreadable(ValueError):
    """A file cannot be read; the text names it and says why."""


def default_files(environ: Mapping[str, str] = os.environ, machine: Path = MACHINE) -> list[Path]:
    """Return the files that there are, the first one lowest; no file is named twice.

    Of the machine's those that this user may not read are left out: they are not meant for a daemon of one's own.
    """
    user = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config") / "ingle" / NAME
    drop_ins = sorted(path for path in (machine / DROP_INS).glob("*.toml") if not path.name.startswith("."))
    mine = user.parent == machine  # the machine's own daemon must not overlook a file
    found = [path for path in (machine / NAME, *drop_ins) if mine or os.access(path, os.R_OK)]
    return [path for path in dict.fromkeys([*found, user]) if os.path.lexists(path)]


def read(files: Sequence[Path]) -> tuple[Table, dict[str, Path]]:
    """Return what the files say together, and the file of each key by its path. Raises Unreadable."""
    merged: Table = {}
    origins: dict[str, Path] = {}
    for file in files:
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise Unreadable(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise Unreadable(f"{file}: not TOML: {error}") from error
        _lay(merged, table, file, origins, "")
    return merged, origins


def origin(key: str, origins: Mapping[str, Path]) -> Path | None:
    """Return the file that a key, or the nearest table around it, comes from."""
    while key:
        if key in origins:
            return origins[key]
        below = [path for path in origins if path.startswith(f"{key}.")]
        if below:
            return origins[below[-1]]
        key = key.rpartition(".")[0]
    return None


def _lay(below: Table, table: Table, file: Path, origins: dict[str, Path], at: str) -> None:
    for key, value in table.items():
        path = f"{at}.{key}" if at else key
        if isinstance(value, dict) and isinstance(below.get(key, {}), dict):
            origins.setdefault(path, file)
            _lay(below.setdefault(key, {}), value, file, origins, path)
        else:
            for stale in [one for one in origins if one.startswith(f"{path}.")]:
                del origins[stale]
            below[key], origins[path] = value, file
