"""Which commands do harm, by what they are told to do and to what."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ingle_plugins.guard.environment import DECODED, DOWNLOADED, UNTOLD, Environment
from ingle_plugins.guard.paths import UNKNOWN, critical, disk, protected, wordset
from ingle_plugins.guard.programs import SHELLS, read

CATEGORIES = ("destroy", "device", "permissions", "download", "encoded", "exhaust", "remote_shell", "disrupt", "denied")
"""Kinds of harm, for the policy. `disrupt` (reboot, firewall off) and `denied` (the policy's own list) are apart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One harm: its category, and for people what would happen."""

    category: str
    why: str


@dataclass(frozen=True, slots=True)
class Target:
    """What the rules know of the place: the environment, and which further folders the policy protects."""

    env: Environment
    more: frozenset[str] = frozenset()

    def folder(self, path: str) -> str | None:
        """Return which protected folder is lost with this path."""
        return protected(path, self.env.cwd, self.more)

    def file(self, path: str) -> str | None:
        """Return which critical file this is."""
        return critical(path, self.env.cwd)


Rule = Callable[[str, list[str], Target], Finding | None]

_TESTS = wordset(
    """
    name iname path ipath wholename regex iregex lname newer mtime mmin atime amin ctime cmin size user group uid
    gid perm empty nouser nogroup inum samefile used
    """
)
"""Tests of `find` that make it choose; -type, -depth and -maxdepth do not."""


def _rm(name: str, args: list[str], target: Target) -> Finding | None:
    line = read(args, [], stop=False)
    flags = set(line.dashes)
    recursive = bool(flags & {"r", "R", "recursive", "P"} - {"P"}) or any(
        "recursive".startswith(f) for f in flags if len(f) > 1
    )
    if "no-preserve-root" in flags and recursive:
        return Finding("destroy", "deletes / and says so")
    for path in line.rest:
        if recursive and (lost := target.folder(path)):
            return Finding("destroy", f"deletes {lost} with all that is in it")
        if lost := target.file(path):
            return Finding("destroy", f"deletes {lost}")
        if path in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty"):
            return Finding("destroy", f"deletes {path}")
        if not recursive and path.rstrip("*.?") in ("/", "/etc/", "/boot/", "/home/~/", "/bin/", "/usr/bin/", "/lib/"):
            return Finding("destroy", f"deletes the files of {path}")
    return None


def _unknown(name: str, args: list[str], target: Target) -> Finding | None:
    """Judge a command whose name cannot be told: with rm's options and rm's worst targets it is one."""
    flags = set(read(args, [], stop=False).dashes)
    if flags & {"r", "R", "recursive"} and flags & {"f", "force"}:
        return _rm(name, args, target)
    return None


def _find(name: str, args: list[str], target: Target) -> Finding | None:
    roots = []
    for word in args:
        if word.startswith(("-", "(", "!")) and word not in ("-H", "-L", "-P"):
            break
        roots.append(word)
    words = [word.lstrip("-") for word in args]
    narrow = any(
        word in _TESTS and (at + 1 >= len(words) or words[at + 1].strip("*") or word not in ("name", "iname", "path"))
        for at, word in enumerate(words)
    )
    if narrow or not (lost := next((found for root in roots if (found := target.folder(root))), None)):
        return None
    if "-delete" in args:
        return Finding("destroy", f"deletes all that is in {lost}")
    for action in ("-exec", "-execdir", "-ok", "-okdir"):
        if action in args and args[args.index(action) + 1 : args.index(action) + 2] in (["rm"], ["/bin/rm"], ["shred"]):
            return Finding("destroy", f"deletes all that is in {lost}")
        run = args[args.index(action) + 1 :] if action in args else []
        if run[:1] == ["chown"] or (
            run[:1] == ["chmod"] and re.search(r"(777|666|000)$|[ao].*\+.*w", " ".join(run[1:2]))
        ):
            return Finding("permissions", f"changes the permissions of all that is in {lost}")
    return None


def _dd(name: str, args: list[str], target: Target) -> Finding | None:
    for word in args:
        if word.startswith("of="):
            path = word[3:]
            if disk(path):
                return Finding("device", f"overwrites the disk {_shown(path)}")
            if lost := target.file(path):
                return Finding("destroy", f"overwrites {lost}")
    return None


def _on_disk(what: str) -> Rule:
    def rule(name: str, args: list[str], target: Target) -> Finding | None:
        if found := next((word for word in args if disk(word)), None):
            return Finding("device", f"{what} {_shown(found)}")
        return None

    return rule


def _disk_with(words: str, what: str) -> Rule:
    """Return a rule for programs that do harm only with one of these words."""
    wanted = set(words.split())

    def rule(name: str, args: list[str], target: Target) -> Finding | None:
        said = {word.lstrip("-").partition("=")[0] for word in args}
        return Finding("device", what) if said & wanted and any(map(_disk_or_pool, args)) else None

    return rule


def _disk_or_pool(word: str) -> bool:
    return disk(word) or not word.startswith(("-", "/"))


def _chmod(name: str, args: list[str], target: Target) -> Finding | None:
    line = read(args, [], stop=False)
    recursive = bool({"R", "recursive"} & set(line.dashes))
    words = [word for word in args if not (word.startswith("--") or re.fullmatch(r"-[Rvfch]+", word))]
    if not words:
        return None
    mode, paths = words[0], words[1:]
    open_to_all = (
        re.fullmatch(r"0?[0-7]?[0-7][0-7][2367]|(.*,)?[augo]*[ao][augo]*[+=][rwxXst]*w[rwxXst]*|\+w", mode) is not None
    )
    closed = re.fullmatch(r"0?0{1,3}|[ua]*[-=][rwx]*x?[rwx]*", mode) is not None
    if re.fullmatch(r"0?[4-7][0-7]{3}|[ug]*\+[rwx]*s[rwx]*", mode) and any(
        path.rsplit("/", 1)[-1] in SHELLS for path in paths
    ):
        return Finding("permissions", "lets everybody run a shell as its owner")
    for path in paths:
        lost = target.folder(path) if recursive else None
        if not recursive and (open_to_all or closed):
            full = target.folder(path)
            lost = (
                full if full in ("/", "/etc", "/usr", "/bin", "/lib", "/boot", "/dev", "/root") else target.file(path)
            )
        if lost and (recursive or lost):
            if name == "chmod" and not recursive and not (open_to_all or closed):
                return None
            return Finding(
                "permissions", f"changes the permissions of {lost}" + (" with all in it" if recursive else "")
            )
    return None


def _chown(name: str, args: list[str], target: Target) -> Finding | None:
    line = read(args, ["reference", "from"], stop=False)
    if not {"R", "recursive"} & set(line.dashes):
        return None
    lost = next((found for path in line.rest[1:] if (found := target.folder(path))), None)
    if lost is None or re.match(r"the home|/home|~|/usr/local|/opt|/srv", lost):  # these may belong to somebody
        return None
    return Finding("permissions", f"gives {lost} with all that is in it to another owner")


def _move(name: str, args: list[str], target: Target) -> Finding | None:
    line = read(args, ["t", "S", "target-directory", "suffix"], stop=False)
    into = line.options.get("t") or line.options.get("target-directory") or (line.rest[-1] if line.rest else "")
    if disk(into):
        return Finding("device", f"overwrites the disk {_shown(into)}")
    sources = line.rest[:-1] if into == (line.rest or [""])[-1] else line.rest
    if name == "mv":
        for path in sources:
            if lost := target.folder(path) or target.file(path):
                return Finding("destroy", f"moves {lost} away")
            if into == "/dev/null" and target.folder(path):
                return Finding("destroy", f"throws {path} away")
    if name in ("cp", "install", "ln") and sources and sources[0] == "/dev/null" and (lost := target.file(into)):
        return Finding("destroy", f"empties {lost}")
    return None


def _rsync(name: str, args: list[str], target: Target) -> Finding | None:
    line = read(args, ["e", "exclude", "include", "rsh", "f", "filter"], stop=False)
    if (
        any(word.startswith("del") for word in line.dashes)
        and len(line.rest) > 1
        and (lost := target.folder(line.rest[-1]))
    ):
        return Finding("destroy", f"deletes in {lost} whatever the source does not have")
    return None


def _truncating(name: str, args: list[str], target: Target) -> Finding | None:
    line = read(args, ["s", "size", "n", "iterations", "r", "reference"], stop=False)
    if name == "tee" and {"a", "append"} & set(line.dashes):
        return next((found for path in line.rest if (found := judge_write(path, ">>", target))), None)
    for path in line.rest:
        if disk(path):
            return Finding("device", f"overwrites the disk {_shown(path)}")
        if lost := target.file(path):
            return Finding("destroy", f"destroys {lost}")
    return None


def _kill(name: str, args: list[str], target: Target) -> Finding | None:
    words = [word for word in args if not re.fullmatch(r"-(\d+|[A-Z]+|s|n)", word) or word == "-1"]
    if name == "kill" and words[-1:] == ["-1"]:
        return Finding("exhaust", "kills every process") if len(args) > 1 else None
    if name == "killall5" or (name in ("killall", "pkill") and args[-1:] in (["-1"], ["."], [".*"], [""])):
        return Finding("exhaust", "kills every process")
    return None


def _crontab(name: str, args: list[str], target: Target) -> Finding | None:
    return Finding("destroy", "deletes all of the user's cron jobs") if "-r" in args else None


def _listener(name: str, args: list[str], target: Target) -> Finding | None:
    """Judge netcat and socat: a shell on the other end of a connection."""
    line = read(args, ["p", "s", "w", "i", "e", "c", "exec", "sh-exec"], stop=False)
    runs = [line.options.get(option, "") for option in ("e", "c", "exec", "sh-exec")]
    runs += [match[1] for word in args if (match := re.search(r"(?:EXEC|SYSTEM):([^,]+)", word, re.IGNORECASE))]
    if any(re.search(r"(^|/)(ba|z|da|k)?sh\b|cmd\.exe", run) for run in runs):
        return Finding("remote_shell", "gives a shell to whoever is at the other end of a connection")
    return None


def _disrupting(name: str, args: list[str], target: Target) -> Finding | None:
    if name in ("shutdown", "reboot", "poweroff", "halt"):
        return None if {"-c", "--help", "-k", "-w"} & set(args) else Finding("disrupt", "stops the machine")
    if name in ("init", "telinit") and args[:1] in (["0"], ["6"]):
        return Finding("disrupt", "stops the machine")
    if name == "systemctl" and set(args) & {"poweroff", "reboot", "halt", "kexec", "rescue", "emergency"}:
        return Finding("disrupt", "stops the machine")
    if name in ("iptables", "ip6tables", "nft") and ({"-F", "--flush"} & set(args) or args[:2] == ["flush", "ruleset"]):
        return Finding("disrupt", "removes all rules of the firewall")
    if name == "ufw" and set(args) & {"disable", "reset"}:
        return Finding("disrupt", "switches the firewall off")
    return None


_FORMAT = _on_disk("makes an empty file system on")
RULES: dict[str, Rule] = {
    "rm": _rm,
    "find": _find,
    "dd": _dd,
    "wipefs": _on_disk("removes the file system's signatures from"),
    "blkdiscard": _on_disk("discards all data of"),
    "sgdisk": _on_disk("changes the partition table of"),
    "sfdisk": _on_disk("changes the partition table of"),
    "badblocks": _disk_with("w", "overwrites a disk"),
    "parted": _disk_with("mklabel mktable rm", "changes the partition table of a disk"),
    "cryptsetup": _disk_with("luksFormat erase luksErase reencrypt", "overwrites a disk's header"),
    "hdparm": _disk_with("security-erase security-erase-enhanced trim-sector-ranges", "erases a disk"),
    "nvme": _disk_with("format sanitize", "erases a disk"),
    "zpool": _disk_with("destroy", "destroys a pool of disks"),
    "vgremove": _disk_with("f force y yes", "destroys a group of volumes"),
    "lvremove": _disk_with("f force y yes", "destroys a volume"),
    "pvremove": _disk_with("f ff force y yes", "destroys a volume"),
    "mke2fs": _FORMAT,
    "mkswap": _FORMAT,
    "newfs": _FORMAT,
    "mkfs": _FORMAT,
    "chmod": _chmod,
    "chown": _chown,
    "chgrp": _chown,
    "mv": _move,
    "cp": _move,
    "install": _move,
    "ln": _move,
    "rsync": _rsync,
    "truncate": _truncating,
    "shred": _truncating,
    "tee": _truncating,
    "unlink": _truncating,
    "srm": _rm,
    "kill": _kill,
    "killall5": _kill,
    "killall": _kill,
    "pkill": _kill,
    "crontab": _crontab,
    "nc": _listener,
    "ncat": _listener,
    "netcat": _listener,
    "socat": _listener,
} | dict.fromkeys(
    wordset("shutdown reboot poweroff halt init telinit systemctl iptables ip6tables nft ufw"), _disrupting
)


def judge(name: str, args: list[str], target: Target) -> Finding | None:
    """Return the harm of one command, whose name is without its folder."""
    if not UNTOLD.isdisjoint(name):
        return _unknown(name, args, target)
    rule = RULES.get(name) or (_FORMAT if name.startswith("mkfs.") else None)
    return rule(name, args, target) if rule else None


def judge_write(path: str, operator: str, target: Target) -> Finding | None:
    """Return the harm of a redirection into a file."""
    if disk(path):
        return Finding("device", f"overwrites the disk {_shown(path)}")
    lost = target.file(path)
    if lost and operator.startswith(">>"):
        opens = re.search(r"/(passwd|shadow|sudoers.*|ld\.so\.preload|sysrq-trigger)$", lost)
        return Finding("permissions", f"adds to {lost}, which says who may do what") if opens else None
    return Finding("destroy", f"overwrites {lost}") if lost else None


def judge_script(text: str) -> Finding | None:
    """Return the harm of giving to an interpreter a text that nobody has read."""
    if DOWNLOADED in text:
        return Finding("download", "runs what it downloads, unread")
    if DECODED in text:
        return Finding("encoded", "runs what it decodes, unread")
    return None


def denied(argv: list[str], deny: list[list[str]]) -> Finding | None:
    """Return whether the policy's own list has this command: its program, and all of its further words."""
    for words in deny:
        if words[0] == argv[0] and all(word in argv[1:] for word in words[1:]):
            return Finding("denied", f"`{' '.join(words)}` is on the policy's list")
    return None


def _shown(path: str) -> str:
    return path.replace(UNKNOWN, "?")
