"""Try a command in a folder of its own, and tell what it did: only tools of a known list, only below that folder.

Absolute paths are made relative to the folder first. What could still reach outside is not run at all.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOOLS: Final = frozenset((
    "base64", "cat", "chmod", "cp", "cut", "diff", "du", "echo", "file", "find", "grep", "gunzip", "gzip", "head",
    "ln", "ls", "md5sum", "mkdir", "mv", "nl", "rm", "rmdir", "sed", "sha256sum", "sort", "stat", "tac", "tail", "tar",
    "touch", "tr", "uniq", "unzip", "wc", "zip",
))  # fmt: skip
FIND_WORDS: Final = frozenset((
    "-delete", "-empty", "-iname", "-maxdepth", "-mtime", "-name", "-size", "-type", "-user",
))  # fmt: skip
SED_SCRIPT: Final = re.compile(r"s/[^/]*/[^/]*/g?|/[^/]*/d|\d+[pd]")
SECONDS: Final = 10
DAY_S: Final = 86_400
LINES: Final = "banana\napple 12\nWORD in a line\nError: no WORD\n\nword again\n\n7\n42\napple 12\n3,x,y,z,1,2,3,4\n"
PACKED: Final = (".zip", ".gz", ".tgz")


@dataclass(frozen=True)
class Outcome:
    """What a command printed and left."""

    status: int
    output: tuple[str, ...]
    tree: tuple[str, ...]


def relative(command: str) -> str:
    """Return the command with absolute paths below the sandbox's folder `root`; what stands in quotes stays."""
    parts = command.split("'")
    parts[::2] = [re.sub(r"(^|[\s=])/(?=\w)", r"\1root/", part) for part in parts[::2]]
    return "'".join(parts)


def may_run(command: str) -> bool:
    """Say whether a command can do nothing outside of its folder."""
    bare = relative(command)
    open_parts = "'".join(bare.split("'")[::2])
    if bare.count("'") % 2 or re.search(r"""[`$\\"&;\n]|\.\.|--|~\w|(^|[\s=])/""", open_parts):
        return False
    return all(_harmless(shlex.split(re.sub(r"[<>]+", " ", stage))) for stage in _stages(bare))


def _stages(command: str) -> list[str]:
    parts = command.split("'")
    parts[1::2] = [part.replace("|", "\0") for part in parts[1::2]]
    return [stage.replace("\0", "|") for stage in "'".join(parts).split("|")]


def _harmless(words: list[str]) -> bool:
    if not words or words[0] not in TOOLS:
        return False
    options = [word for word in words[1:] if word.startswith("-")]
    if words[0] == "find":
        return all(option in FIND_WORDS or re.fullmatch(r"-\d+\w?", option) for option in options)
    if words[0] == "sed":
        return set(options) <= {"-i", "-n"} and any(SED_SCRIPT.fullmatch(word) for word in words[1:2] + words[2:3])
    return words[0] != "tail" or "-f" not in options


def prepare(folder: Path, arguments: dict[str, str], command: str) -> None:
    """Fill a sandbox with what the request speaks of, and with files beside it."""
    word = arguments.get("word", "WORD")
    text = LINES.replace("WORD", word) + "".join(f"line {at} {word}"[: 40 - at % 7] + "\n" for at in range(1, 400))
    for place in (folder, folder / "root"):
        _fill(place, text, arguments)
    if "dir" in arguments:
        place = _inside(folder, arguments["dir"])
        place.mkdir(parents=True, exist_ok=True)
        if not command.startswith("rmdir"):
            _fill(place, text, arguments)
    for key in ("file", "file2", "csv", "zip", "tgz", "gz"):
        if key in arguments and not (key in ("zip", "tgz") and command.startswith(("zip", "tar -c"))):
            _write(_inside(folder, arguments[key]), key, text.replace("apple", "pear") if key == "file2" else text)
    for key in ("newfile", "newdir", "tgz", "zip"):
        if key in arguments:
            _inside(folder, arguments[key]).parent.mkdir(parents=True, exist_ok=True)


def _inside(folder: Path, path: str) -> Path:
    return folder / re.sub(r"^(/|~/?)", lambda found: "root/" if found[0] == "/" else "", path)


def _fill(place: Path, text: str, arguments: dict[str, str]) -> None:
    size, days = arguments.get("size", "10k"), int(arguments.get("days", "3"))
    near = int(size[:-1]) * {"k": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[-1]]
    extension = arguments.get("ext", "txt")
    sizes = {f"big.{extension}": (near * 2, days / 2), f"deep/deeper/three.{extension}": (near * 3, 1.0)}
    sizes |= {"small.bin": (near // 4, days * 2 + 2), "empty.txt": (0, 0.2), ".hidden": (5, 9)}
    texts = {f"one.{extension}": 0.5, "deep/two.txt": days + 3}
    if "bare" in arguments:
        texts["deep/" + arguments["bare"]] = 4
    (place / "deep" / "deeper").mkdir(parents=True, exist_ok=True)
    for name, age in texts.items():
        (place / name).write_text(text)
        _age(place / name, age)
    for name, (length, age) in sizes.items():
        with (place / name).open("wb") as file:
            file.truncate(length)
        _age(place / name, age)


def _write(path: Path, key: str, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "packed" / "a.txt"
        source.parent.mkdir()
        source.write_text(text)
        _age(source, 2)
        match key:
            case "zip":
                shutil.move(shutil.make_archive(f"{name}/a", "zip", name, "packed"), path)
            case "tgz":
                shutil.move(shutil.make_archive(f"{name}/a", "gztar", name, "packed"), path)
            case "gz":
                subprocess.run(["gzip", "-n", str(source)], check=True)
                shutil.move(f"{source}.gz", path)
            case _:
                path.write_text(text)
    _age(path, 2.5)


def _age(path: Path, days: float) -> None:
    changed = time.time() - days * DAY_S
    os.utime(path, (changed, changed))


def run(command: str, arguments: dict[str, str], reference: str) -> Outcome | None:
    """Run a command in a new sandbox that is made for the reference; None where it may not run."""
    if not may_run(command):
        return None
    with tempfile.TemporaryDirectory(prefix="ember-") as name:
        folder = Path(name) / "home"
        folder.mkdir()
        prepare(folder, arguments, reference)
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}
        shell = ["bash", "-c", f"ulimit -f 100000; {relative(command)}"]
        try:
            done = subprocess.run(shell, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=SECONDS, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        output = done.stdout.decode(errors="replace").replace(str(folder), "~")
        return Outcome(done.returncode, _lines(command, output), tuple(_tree(folder)))


def _lines(command: str, output: str) -> tuple[str, ...]:
    lines = output.splitlines()
    if command.startswith(("ls -l", "stat", "unzip -l")):
        lines = [re.sub(r"\d\d:\d\d(:\d\d[.\d]*)?|Inode: \d+|Device: \S+", "", line) for line in lines]
    if command.startswith(("find", "du", "grep -r", "zip", "unzip")) and "sort" not in command:
        lines.sort()
    return tuple(lines)


def _tree(folder: Path) -> list[str]:
    folder.chmod(0o700)
    found = []
    for name, folders, files in os.walk(folder):
        for path in sorted(Path(name) / one for one in folders + files):
            found.append(_describe(path, path.relative_to(folder)))
    return sorted(found)


def _describe(path: Path, name: Path) -> str:
    if path.is_symlink():
        return f"{name} -> {path.readlink()}"
    mode = path.stat().st_mode
    path.chmod(mode | 0o700)  # whatever was asked for: it must be read, and be removed in the end
    if path.is_dir() or path.name.endswith(PACKED):
        return f"{name} {mode:o}"
    size = path.stat().st_size
    return f"{name} {mode:o} {size} {path.read_bytes().hex() if size < 100_000 else ''}"
