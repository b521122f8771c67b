"""Programs that run other programs: which command is left when `sudo`, `env`, `xargs` or `sh -c` are taken off."""

import re
from dataclasses import dataclass, field

from ingle_plugins.guard.environment import told
from ingle_plugins.guard.paths import UNKNOWN, wordset


@dataclass(slots=True)
class Inner:
    """What a program runs: a command, or the text of a script."""

    argv: list[str] = field(default_factory=list)
    script: str | None = None
    positional: list[str] = field(default_factory=list)
    here: bool = False
    """The script runs in the same shell, as that of `eval` does."""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """How a program's command line is read that ends in another command."""

    values: str = ""
    """Its options that take a value: letters, and long names."""
    skip: int = 0
    """Arguments before the command."""
    joined: bool = False
    """The rest is joined and given to a shell."""
    command: str = ""
    """The option that takes a script."""


WRAPPERS = {
    "sudo": Wrapper("u g p r h C D R T U t user group prompt host chdir chroot role type"),
    "doas": Wrapper("u C"),
    "env": Wrapper("u C unset chdir"),
    "nohup": Wrapper(),
    "nice": Wrapper("n adjustment"),
    "ionice": Wrapper("c n class classdata"),
    "time": Wrapper("f o"),
    "timeout": Wrapper("s k signal kill-after", skip=1),
    "stdbuf": Wrapper("i o e input output error"),
    "setsid": Wrapper(),
    "chroot": Wrapper("", skip=1),
    "command": Wrapper(),
    "builtin": Wrapper(),
    "exec": Wrapper("a"),
    "coproc": Wrapper(),
    "noglob": Wrapper(),
    "nocorrect": Wrapper(),
    "busybox": Wrapper(),
    "toybox": Wrapper(),
    "strace": Wrapper("e o p s E u"),
    "ltrace": Wrapper("e o p s u"),
    "unshare": Wrapper(),
    "nsenter": Wrapper("t target"),
    "systemd-run": Wrapper("u p unit property description slice uid gid"),
    "systemd-inhibit": Wrapper("what who why mode"),
    "pkexec": Wrapper("user"),
    "fakeroot": Wrapper(),
    "unbuffer": Wrapper(),
    "chronic": Wrapper(),
    "caffeinate": Wrapper("t w"),
    "eatmydata": Wrapper(),
    "torsocks": Wrapper(),
    "proxychains": Wrapper("f"),
    "proxychains4": Wrapper("f"),
    "taskset": Wrapper("", skip=1),
    "chrt": Wrapper("", skip=1),
    "setarch": Wrapper("", skip=1),
    "dbus-run-session": Wrapper(),
    "watch": Wrapper("n d interval", joined=True),
    "ssh": Wrapper("b c D E e F I i J L l m O o p Q R S W w", skip=1, joined=True),
    "su": Wrapper("g G s w shell group", command="c command session-command", skip=99),
    "runuser": Wrapper("g G s w u shell group user", command="c command session-command"),
    "script": Wrapper("E I O B T o m", command="c command", skip=99),
    "flock": Wrapper("E w timeout", command="c command", skip=1),
    "tmux": Wrapper("L S f n s t c e x y", skip=1, joined=True),
    "screen": Wrapper("S c e h p s T t"),
}

SHELLS = wordset("sh bash zsh dash ksh ash fish mksh rbash")
INTERPRETERS = {"python": "c", "python2": "c", "python3": "c", "perl": "eE", "ruby": "e", "node": "ep", "php": "r"}
_SHELL_VALUES = ("o", "O", "rcfile", "init-file", "C", "init-command")
_XARGS = [
    *("I", "n", "P", "L", "d", "s", "E", "a", "arg-file", "delimiter"),
    *("max-args", "max-procs", "max-lines", "max-chars", "replace", "eof"),
]


@dataclass(slots=True)
class Line:
    """A command line taken apart: options with their values, and the other words from the first of them on."""

    options: dict[str, str]
    rest: list[str]
    dashes: list[str] = field(default_factory=list)
    """The letters of short options, and the names of long ones."""


def read(args: list[str], values: list[str], *, stop: bool = True, letters_before: str = "") -> Line:
    """Take a command line apart. With `stop`, options end at the first other word.

    A letter of `letters_before` takes a value though it stands in the middle of others, as in `sh -ec 'rm x'`.
    """
    line = Line({}, [])
    at = 0
    while at < len(args):
        word = args[at]
        at += 1
        if word == "--":
            line.rest += args[at:]
            break
        if not word.startswith("-") or word == "-":
            line.rest.append(word)
            if stop:
                line.rest += args[at:]
                break
            continue
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in values and not equals and at < len(args):
                value, at = args[at], at + 1
            line.options[name] = value
            line.dashes.append(name)
            continue
        for index, letter in enumerate(word[1:], 1):
            line.dashes.append(letter)
            line.options.setdefault(letter, "")
            if letter in letters_before:
                if at < len(args):
                    line.options[letter], at = args[at], at + 1
            elif letter in values:
                glued = word[index + 1 :]
                if not glued and at < len(args):
                    glued, at = args[at], at + 1
                line.options[letter] = glued
                break
    return line


def inner(name: str, args: list[str], stdin: str | None) -> Inner | None:
    """Return what a program runs, or None where it runs nothing else. `stdin` is what is piped into it."""
    if name == "env" or name == "sudo":
        args = _without_assignments(args, name)
    if name == "env" and (split := _split_string(args)) is not None:
        return Inner(script=split)
    if name in WRAPPERS:
        return _wrapped(name, args)
    if name in SHELLS:
        return _shell(args, stdin)
    match name:
        case "eval":
            return Inner(script=" ".join(args), here=True)
        case "source" | "." if args[:1] in (["/dev/stdin"], ["-"]):
            return Inner(script=stdin or "", here=True)
        case "trap" if args and len(args) > 1:
            return Inner(script=args[0], here=True)
        case "xargs":
            return Inner(argv=_xargs(args, stdin or UNKNOWN))
        case "parallel":
            words = args[: args.index(":::")] if ":::" in args else args
            more = args[args.index(":::") + 1 :] if ":::" in args else _items(stdin)
            line = read(words, ["j", "jobs", "a", "delay", "timeout"])
            return Inner(script=" ".join([*line.rest, *more]).replace("{}", " ".join(more)))
        case _:
            return None


def _wrapped(name: str, args: list[str]) -> Inner:
    wrapper = WRAPPERS[name]
    script = wrapper.command.split()
    line = read(args, [*wrapper.values.split(), *script], stop=True)
    if name == "command" and {"v", "V"} & set(line.dashes):
        return Inner()
    for option in script:
        if option in line.options:
            return Inner(script=line.options[option])
    rest = line.rest
    if script and (at := next((at for at, word in enumerate(rest) if word.lstrip("-") in script), None)) is not None:
        return Inner(script=" ".join(rest[at + 1 : at + 2]))  # su root -c '...'
    rest = rest[wrapper.skip :]
    if name == "tmux":
        line = read(rest, wrapper.values.split())
        rest = line.rest
    return Inner(script=" ".join(rest)) if wrapper.joined and rest else Inner(argv=rest)


def _without_assignments(args: list[str], name: str) -> list[str]:
    """Drop the assignments before a command: `env A=b rm`."""
    values = WRAPPERS[name].values.split()
    kept: list[str] = []
    expected = False
    for at, word in enumerate(args):
        if expected or word.startswith("-"):
            kept.append(word)
            expected = not expected and word.lstrip("-") in values
        elif not re.match(r"\w+=", word):
            return kept + args[at:]
    return kept


def _split_string(args: list[str]) -> str | None:
    for at, word in enumerate(args):
        if word in ("-S", "--split-string") and at + 1 < len(args):
            return " ".join(args[at + 1 :])
        if word.startswith("-S") or word.startswith("--split-string="):
            return " ".join([word.removeprefix("--split-string=").removeprefix("-S"), *args[at + 1 :]])
        if not word.startswith("-"):
            return None
    return None


def _shell(args: list[str], stdin: str | None) -> Inner | None:
    args = [word for word in args if not word.startswith("+")]
    line = read(args, list(_SHELL_VALUES))
    if "c" in line.dashes or "command" in line.options:
        if line.options.get("command"):
            return Inner(script=line.options["command"])
        return Inner(script=line.rest[0] if line.rest else "", positional=line.rest[2:])
    if {"n", "noexec"} & set(line.dashes):
        return None  # it only reads
    if line.rest and "s" not in line.dashes and line.rest[0] not in ("-", "/dev/stdin"):
        return None  # a script's file: whoever knows the files looks into it
    return Inner(script=stdin or "", positional=line.rest)


def _xargs(args: list[str], stdin: str) -> list[str]:
    line = read(args, _XARGS)
    mark = line.options.get("I") or line.options.get("replace") or ("{}" if "i" in line.dashes else "")
    items = _items(stdin)
    if not mark:
        return [*line.rest, *items]
    return [
        piece
        for word in line.rest
        for piece in ([word.replace(mark, item) for item in items] if mark in word else [word])
    ]


def _items(stdin: str | None) -> list[str]:
    if stdin is None or not told(stdin):
        return [UNKNOWN]
    return stdin.replace("\0", " ").split()[:1000]


def code_of(name: str, args: list[str]) -> str | None:
    """Return the program text on an interpreter's command line, or None."""
    letters = INTERPRETERS.get(re.sub(r"[\d.]+$", "", name) if name not in INTERPRETERS else name)
    if letters is None:
        return None
    line = read(args, ["W", "X", "m", "I", *letters], letters_before="")
    return next((line.options[letter] for letter in letters if line.options.get(letter)), None)
