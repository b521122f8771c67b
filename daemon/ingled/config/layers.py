"""The files of the configuration, one laid over the other: the machine's, its drop-ins, then the user's.

A later file's keys win, table by table; a list, such as `rules`, comes whole from the last file that has it. What comes
out says for each key which file it is from.
"""

import os
import re
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
        key = _around(key)
    return None


def line(file: Path, key: str) -> int | None:
    """Return the number of the line of a file at which a key, or else the nearest table around it, is said."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        while key and not _has(tomllib.loads("\n".join(lines)), key):
            key = _around(key)
    except (OSError, ValueError):  # it is another one by now
        return None
    if not key:
        return None
    without, within = 0, len(lines)
    while within - without > 1:
        middle = (without + within) // 2
        end, table = _beginning(lines, middle)
        if _has(table, key):
            within = middle
        else:
            without = end
    return within


def _around(key: str) -> str:
    """Return the path of the table or list in which a key stands."""
    return key[: max(key.rfind("."), key.rfind("["), 0)]


def _beginning(lines: Sequence[str], least: int) -> tuple[int, Table]:
    """Return the shortest beginning of a file that has so many lines and cuts nothing in two: its lines, and what it
    says.
    """
    for count in range(least, len(lines)):
        try:
            return count, tomllib.loads("\n".join(lines[:count]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
    return len(lines), tomllib.loads("\n".join(lines))


def _has(value: Any, path: str) -> bool:
    """Return whether something stands at a path, in which names may have dots themselves."""
    if not path:
        return True
    if isinstance(value, list):
        index = re.match(r"\[(\d+)\]\.?", path)
        return index is not None and int(index[1]) < len(value) and _has(value[int(index[1])], path[index.end() :])
    return isinstance(value, dict) and any(
        path.startswith(name) and path[len(name) :][:1] in ("", ".", "[") and _has(one, path[len(name) :].lstrip("."))
        for name, one in value.items()
    )


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
