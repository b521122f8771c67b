"""Which paths a command must not destroy. Pure; nothing here looks at a disk."""

import re
from fnmatch import fnmatchcase


def wordset(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


UNKNOWN = "\x00"
"""Stands in an expanded word for text that cannot be told without running something."""

HOME = "/home/~"
"""What `~` and $HOME stand for: the home of whoever runs it."""

SYSTEM = wordset(
    """
    / /bin /boot /boot/efi /boot/grub /dev /etc /home /lib /lib32 /lib64 /libx32 /opt /proc /root /run /sbin /srv
    /sys /usr /usr/bin /usr/include /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/local /usr/local/bin
    /usr/local/lib /usr/sbin /usr/share /var /var/lib /System /Library /Applications /Users /private /private/etc
    /private/var
    """
)
"""Folders without which a system does not start, or all that somebody has."""

CRITICAL = re.compile(
    r"/etc/(passwd|shadow|group|gshadow|sudoers|fstab|hosts|ld\.so\.preload|ld\.so\.conf|crypttab|sudoers\.d/.*"
    r"|pam\.d/[\w-]+|ssh/sshd_config)|/boot/(vmlinuz|initrd|initramfs|grub/grub\.cfg)[^/]*|/root/\.ssh/.*|/home/[^/]+/\.ssh/(id_.*|authorized_keys)"
    r"|/proc/sysrq-trigger|/dev/k?mem|/proc/kcore|(/usr)?/lib.*/libc\.so.*"
    r"|(/usr)?/s?bin/(ba|da|z)?sh|(/usr)?/s?bin/(init|su|sudo|login|systemctl)|(/usr)?/lib/systemd/systemd"
    r"|/home/~/\.(bashrc|zshrc|profile|bash_profile|zprofile)"
)
"""Files that a system or its owner needs; losing one of them is no smaller harm than losing a folder."""

_DISK = re.compile(
    r"/dev/((sd|hd|vd|xvd)[a-zA-Z]+\d*|(sd|hd|vd|xvd)[a-z]*\*|nvme\d*(n\d+(p\d+)?|\*|n?X)?|mmcblk\d+(p\d+)?|r?disk\d+(s\d+)?"
    r"|disk/.+|mapper/.+|dm-\d+|md\d+|[hsv]d|\x00)",
    re.IGNORECASE,
)

_EVERYTHING = frozenset(("*", ".*", "**", "?*", "*?", ".[!.]*", ".??*", ".[^.]*", "..?*", "*.*", ".", "[!.]*", "[^.]*"))
"""Names that stand for all there is in a folder."""


def absolute(path: str, cwd: str | None) -> str | None:
    """Return the path without its detours, or None where it hangs on a folder that nobody knows."""
    if not path.startswith("/"):
        if cwd is None or not path:
            return None
        path = f"{cwd}/{path}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def protected(path: str, cwd: str | None, more: frozenset[str]) -> str | None:
    """Return the folder of the system, of a user or of the policy that is lost with the path, or None."""
    full = absolute(path, cwd)
    if full is None:
        return None
    parts = full.strip("/").split("/")
    while parts and parts[-1] in _EVERYTHING:
        parts.pop()
    whole = "/" + "/".join(parts)
    if whole in SYSTEM or whole in more:
        return whole
    if len(parts) == 2 and parts[0] in ("home", "Users"):
        return "the home folder" if parts[1] == "~" else whole
    if len(parts) == 3 and parts[0] == "home" and parts[2] in (".ssh", ".gnupg"):
        return whole.replace(HOME, "~")
    if re.search(r"[*?\[]", whole):
        return next((folder for folder in sorted(SYSTEM | more) if _globs(whole, folder)), None)
    return None


def _globs(pattern: str, folder: str) -> bool:
    parts, names = pattern.strip("/").split("/"), folder.strip("/").split("/")
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def critical(path: str, cwd: str | None) -> str | None:
    """Return the path where it is a file that must not be overwritten, else None."""
    full = absolute(path, cwd)
    return full if full is not None and CRITICAL.fullmatch(full) else None


def disk(path: str) -> bool:
    """Return whether the path is a disk or a part of one, and not a loop device or a file."""
    return _DISK.fullmatch(path) is not None
