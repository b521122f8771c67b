"""Looks at commands whose words are known: what each of them runs, learns, prints, and which harm it does."""

import re
import shlex
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ingle_plugins.guard.danger import Finding, Target, denied, judge, judge_script
from ingle_plugins.guard.environment import LONGEST, Environment, told
from ingle_plugins.guard.grammar import parser
from ingle_plugins.guard.outputs import FETCHERS, printed
from ingle_plugins.guard.paths import UNKNOWN, absolute
from ingle_plugins.guard.programs import INTERPRETERS, SHELLS, Inner, code_of, inner, read

if TYPE_CHECKING:
    from tree_sitter import Node

STEPS = 2000
"""Commands that are looked at in one script, besides one for each of its characters: loops and functions could ask for
any number."""
NESTING = 80
"""Nesting of the grammar, of functions, and of scripts in scripts: deeper is nobody's script, and would exhaust the
interpreter's stack."""
TOO_MUCH = Finding("encoded", "is nested or repeated so much that nobody can read it")

_FORKERS = re.compile(
    r"fork\s*(\(\))?\s*while\s+(fork|1)|while\s*(\(?1\)?|True)\s*:?\s*\{?\s*(os\.)?fork|fork while", re.IGNORECASE
)
_RUNS = re.compile(r"system|popen|exec|spawn|subprocess|call|run|`", re.IGNORECASE)
_STRINGS = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|`([^`]*)`|\{([^{}]*)\}")
_REMOVES = re.compile(r"(rmtree|removedirs|rmSync|rm_rf|remove_tree|rmdirSync)\W{1,3}(['\"])(?P<path>[^'\"]*)\2")


class Commands(ABC):
    """The half of a shell that carries out commands; the other half reads the tree of a script."""

    def __init__(
        self,
        env: Environment | None = None,
        *,
        protect: frozenset[str] = frozenset(),
        deny: list[list[str]] | None = None,
    ) -> None:
        self.env = env or Environment()
        self.findings: list[Finding] = []
        self._protect = protect
        self._deny = deny or []
        self._steps = 0
        self._depth = 0
        self._calling: set[str] = set()
        self._descriptors = 0
        self._loops = 0

    @abstractmethod
    def _visit(self, node: "Node", stdin: str | None) -> str:
        """Look at a node of a script and return what it prints."""

    def _found(self, finding: Finding | None) -> None:
        if finding is not None and finding not in self.findings:
            self.findings.append(finding)

    def _target(self) -> Target:
        return Target(self.env, self._protect)

    def _file(self, path: str) -> str:
        return self.env.files.get(absolute(path, self.env.cwd) or path, self.env.files.get(path, UNKNOWN))

    def _execute(self, argv: list[str], stdin: str | None) -> str:
        """Look at a command whose words are known, and return what it prints."""
        self._steps -= 1
        self._depth += 1
        try:
            if self._steps < 0 or self._depth > NESTING:
                self._found(TOO_MUCH)
                return UNKNOWN
            while argv and not argv[0]:
                argv = argv[1:]
            return self._run(argv, stdin) if argv else ""
        finally:
            self._depth -= 1

    def _run(self, argv: list[str], stdin: str | None) -> str:
        path, args = argv[0], argv[1:]
        name = path.rsplit("/", 1)[-1] or path
        if (alias := self.env.aliases.pop(name, None)) is not None:  # taken off, or `alias rm='rm -i'` never ends
            try:
                return self._script(" ".join([alias, *map(shlex.quote, args)]), stdin, None)
            finally:
                self.env.aliases[name] = alias
        if name in self.env.functions and name == path:
            return self._call(name, args, stdin)
        if self._builtin(name, args, stdin):
            return ""
        for finding in (denied([name, *args], self._deny), judge(name, args, self._target())):
            self._found(finding)
        self._files(name, path, args, stdin)
        runs = inner(name, args, stdin)
        if runs is not None:
            return self._inner(name, runs, stdin)
        if name == "find":
            return self._find(args)
        if name == "cat" and (words := [word for word in args if not word.startswith("-")]):
            return "".join(map(self._file, words[:20]))[:LONGEST]
        return printed(name, args, stdin)

    def _inner(self, name: str, runs: Inner, stdin: str | None) -> str:
        if runs.script is None:
            return self._execute(runs.argv, stdin)
        self._found(judge_script(runs.script))
        return self._script(runs.script, None if name in SHELLS else stdin, None if runs.here else runs.positional)

    def _script(self, text: str, stdin: str | None, positional: list[str] | None) -> str:
        """Look at a script inside of a script; with parameters it runs in a shell of its own."""
        if not text.strip("\x00\x01\x02 \n"):
            return UNKNOWN
        root = (
            parser()
            .parse(text.replace("\x00", "${_}").replace("\x01", "${_}").replace("\x02", "${_}").encode())
            .root_node
        )
        if positional is None:
            return self._visit(root, stdin)
        before, self.env = self.env, self.env.copy()
        self.env.positional = positional
        try:
            return self._visit(root, stdin)
        finally:
            self.env = before

    def _call(self, name: str, args: list[str], stdin: str | None) -> str:
        if name in self._calling:
            return UNKNOWN
        before, self.env.positional = self.env.positional, args
        self._calling.add(name)
        try:
            return self._visit(self.env.functions[name], stdin)
        finally:
            self._calling.discard(name)
            self.env.positional = before

    def _builtin(self, name: str, args: list[str], stdin: str | None) -> bool:
        """Carry out what changes the shell itself; returns whether it was such a command."""
        env = self.env
        match name:
            case "cd" | "pushd" | "chdir":
                words = [word for word in args if not re.fullmatch(r"-[LPe@n]+|--", word)]
                goal = words[0] if words else "~"
                env.cwd = absolute("/home/~" if goal == "~" else goal, env.cwd) if told(goal) and goal != "-" else None
            case "export" | "declare" | "local" | "typeset" | "readonly":
                for word in args:
                    key, equals, value = word.partition("=")
                    if equals:
                        env.assign(key, [value])
            case "set":
                if "--" in args:
                    env.positional = args[args.index("--") + 1 :]
            case "shift":
                env.positional = env.positional[int(args[0]) if args and args[0].isdigit() else 1 :]
            case "unset":
                for word in args:
                    env.variables.pop(word, None)
                    env.functions.pop(word, None)
            case "alias":
                for word in args:
                    key, equals, value = word.partition("=")
                    if equals:
                        env.aliases[key] = value
                        self.env, before = env.copy(), env
                        self._script(value, None, None)
                        self.env = before
            case "read" if args and stdin is not None:
                names = [word for word in args if not word.startswith("-")]
                for key, value in zip(names, stdin.split(None, max(0, len(names) - 1)), strict=False):
                    env.assign(key, [value.strip()])
            case "printf" if args[:1] == ["-v"] and len(args) > 2:
                env.assign(args[1], [printed("printf", args[2:], None)])
            case _:
                return False
        return True

    def _files(self, name: str, path: str, args: list[str], stdin: str | None) -> None:
        """Follow files: what was downloaded or written to one may be run from there."""
        words = [word for word in args if not word.startswith("-")]
        if name in FETCHERS:
            line = read(args, ["o", "O", "output", "output-document"], stop=False)
            into = next(
                (line.options[key] for key in ("o", "O", "output", "output-document") if line.options.get(key)), ""
            )
            urls = [word for word in words if "://" in word or re.match(r"[\w-]+(\.[\w-]+)+/", word)]
            for file in [into] if into else [url.rstrip("/").rsplit("/", 1)[-1] for url in urls]:
                self.env.files[absolute(file, self.env.cwd) or file] = "\x01"
        elif name == "tee":
            for file in words:
                self.env.files[absolute(file, self.env.cwd) or file] = stdin or UNKNOWN
        elif name in SHELLS or name in ("source", ".") or name in INTERPRETERS:
            self._interpreted(name, args, words, stdin)
        elif "/" in path and path.removeprefix("./") in self.env.files:
            self._text(path.removeprefix("./"), args)

    def _interpreted(self, name: str, args: list[str], words: list[str], stdin: str | None) -> None:
        code = code_of(name, args)
        if code is not None:
            self._code(code)
        elif words and name not in INTERPRETERS and not any(re.fullmatch(r"-[a-z]*c[a-z]*", word) for word in args):
            self._text(words[0], words[1:])
        elif name in INTERPRETERS and not any(word.startswith("-m") for word in args):
            self._found(judge_script(self._file(words[0]) if words else stdin or ""))

    def _text(self, path: str, args: list[str]) -> None:
        """Look at the content of a file that is run."""
        content = self._file(path.removeprefix("./"))
        self._found(judge_script(content))
        if told(content):
            self._script(content, None, args)

    def _code(self, code: str) -> None:
        """Look at a program in another language: what it deletes, and what it gives to a shell."""
        self._found(judge_script(code))
        if _FORKERS.search(code):
            self._found(Finding("exhaust", "starts copies of itself without end"))
        if "socket" in code and re.search(r"/(ba|z)?sh\b", code):
            self._found(Finding("remote_shell", "gives a shell to whoever is at the other end of a connection"))
        for match in _REMOVES.finditer(code):
            self._execute(["rm", "-r", match["path"]], None)
        if _RUNS.search(code):
            for match in _STRINGS.finditer(code):
                self._script(next(filter(None, match.groups()), ""), None, [])
            words = re.findall(r"\[((?:\s*['\"][^'\"]*['\"]\s*,?)+)\]", code)  # ["rm", "-rf", "/"]
            for listed in words:
                self._execute(
                    [first or second for first, second in re.findall(r"'([^']*)'|\"([^\"]*)\"", listed)], None
                )

    def _find(self, args: list[str]) -> str:
        """Look at what `find` runs, and return what it prints first: the folders that it was given."""
        roots = []
        for word in args:
            if word.startswith(("-", "(", "!")):
                break
            roots.append(word)
        for action in ("-exec", "-execdir", "-ok", "-okdir"):
            for at, word in enumerate(args):
                if word == action:
                    end = next((to for to in range(at, len(args)) if args[to] in (";", "+")), len(args))
                    self._execute([part.replace("{}", UNKNOWN) for part in args[at + 1 : end]], None)
        told_all = all(word in ("-type", "f", "d", "-print", "-print0", *roots) for word in args)
        return "\n".join(roots) if told_all and roots else UNKNOWN
