"""Reads shell scripts as a shell would, without running anything, and says which harm they would do.

The grammar is tree-sitter's. What it cannot make sense of is looked at too, as far as it has commands in it.
"""

import re
import shlex
from typing import TYPE_CHECKING

from ingle_plugins.guard.commands import NESTING, STEPS, TOO_MUCH, Commands
from ingle_plugins.guard.danger import Finding, judge_write
from ingle_plugins.guard.environment import LONGEST, Environment, told
from ingle_plugins.guard.grammar import parse
from ingle_plugins.guard.paths import UNKNOWN, absolute
from ingle_plugins.guard.programs import SHELLS
from ingle_plugins.guard.words import Expander, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

ROUNDS = (32, 4, 1)
"""Values of a loop that are tried; fewer for a loop in a loop."""

_COMMANDS = re.compile(r"[;\n]|&&|\|\|?")


class Shell(Commands):
    """One shell that a text is fed to; what it learns (variables, files, functions) holds for what follows."""

    def copy(self) -> "Shell":
        """Return a shell that knows as much and learns on its own."""
        return Shell(self.env.copy(), protect=self._protect, deny=self._deny)

    def run(self, text: str) -> list[Finding]:
        """Look at a script; return the harm that it would do, each once."""
        self.findings, self._steps = [], STEPS + len(text)
        self._visit(parse(text).root_node, None)
        return self.findings

    # ---- the tree

    def _visit(self, node: "Node", stdin: str | None) -> str:
        """Look at a node and return what it prints."""
        self._depth += 1
        try:
            if self._depth > NESTING:
                self._found(TOO_MUCH)
                return UNKNOWN
            return self._node(node, stdin)
        finally:
            self._depth -= 1

    def _node(self, node: "Node", stdin: str | None) -> str:
        match node.type:
            case "command":
                return self._command(node, stdin)
            case "pipeline":
                for child in node.named_children:
                    stdin = self._visit(child, stdin)
                return stdin or ""
            case "redirected_statement":
                return self._redirected(node, stdin)
            case "variable_assignment":
                self._assign(node, self.env)
                return ""
            case "subshell":
                return self._apart(node, stdin)
            case "function_definition":
                return self._define(node)
            case "for_statement":
                return self._loop(node, stdin)
            case "comment" | "heredoc_body" | "heredoc_start" | "heredoc_end":
                return ""
            case "ERROR":
                self._broken(node, stdin)
                return self._children(node, stdin)
            case (
                "word"
                | "string"
                | "raw_string"
                | "concatenation"
                | "expansion"
                | "simple_expansion"
                | "command_substitution"
            ):
                self._expander().fields(node)
                return ""
            case _:
                return self._children(node, stdin)

    def _children(self, node: "Node", stdin: str | None) -> str:
        return "".join([self._visit(child, stdin) for child in node.named_children])[:LONGEST]

    def _apart(self, node: "Node", stdin: str | None = None) -> str:
        """Look at what runs in a shell of its own."""
        before, self.env = self.env, self.env.copy()
        try:
            return self._children(node, stdin)
        finally:
            self.env = before

    def _expander(self) -> Expander:
        return Expander(self.env, self._apart, self._process)

    def _process(self, node: "Node") -> str:
        """Look at `<(...)` or `>(...)` and return the name of the file that it becomes."""
        self._descriptors += 1
        name = f"/dev/fd/{self._descriptors + 60}"
        self.env.files[name] = self._apart(node, UNKNOWN)
        return name

    def _assign(self, node: "Node", env: Environment) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None:
            return
        expander = self._expander()
        values = [""] if value is None else expander.array(value) if value.type == "array" else [expander.text(value)]
        if name.type == "subscript":
            key = text_of(name).partition("[")[0]
            env.assign(key, [*env.variables.get(key, []), *values])
        elif "+=" in text_of(node)[: len(text_of(name)) + 2]:
            before = env.variables.get(text_of(name), [])
            joined = (
                [*before, *values] if value is not None and value.type == "array" else ["".join(before) + values[0]]
            )
            env.assign(text_of(name), joined)
        else:
            env.assign(text_of(name), values)

    def _define(self, node: "Node") -> str:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is None or body is None:
            return ""
        called = text_of(name)
        if _forks_itself(body, called):
            self._found(Finding("exhaust", "is a fork bomb: it starts copies of itself without end"))
        self.env.functions[called] = body
        before, self.env = self.env, self.env.copy()
        self.env.positional = []
        self._calling.add(called)
        try:
            self._visit(body, UNKNOWN)
        finally:
            self._calling.discard(called)
            self.env = before
        return ""

    def _loop(self, node: "Node", stdin: str | None) -> str:
        variable, body = node.child_by_field_name("variable"), node.child_by_field_name("body")
        expander = self._expander()
        values = [word for child in node.children_by_field_name("value") for word in expander.fields(child)]
        out = ""
        self._loops += 1
        for value in values[: ROUNDS[min(self._loops, len(ROUNDS)) - 1]] or [UNKNOWN]:
            if variable is not None:
                self.env.assign(text_of(variable), [value])
            if body is not None:
                out += self._visit(body, stdin)
        self._loops -= 1
        return out[:LONGEST]

    def _redirected(self, node: "Node", stdin: str | None) -> str:
        body = node.child_by_field_name("body")
        redirects = [child for child in node.named_children if body is None or child.id != body.id]
        stdin, writes, rest = self._redirects(redirects, stdin)
        out = self._visit(body, stdin) if body is not None else ""
        self._written(writes, out, body)
        for part in rest:  # what stands behind a here-document's mark on the same line
            out = self._visit(part, out)
        return UNKNOWN if writes and not rest else out

    def _redirects(
        self, nodes: "list[Node]", stdin: str | None
    ) -> "tuple[str | None, list[tuple[str, str]], list[Node]]":
        """Return what is redirected: input, files that are written to, and further commands."""
        writes: list[tuple[str, str]] = []
        rest: list[Node] = []
        for node in nodes:
            match node.type:
                case "herestring_redirect":
                    stdin = "".join(self._expander().text(child) for child in node.named_children)
                case "heredoc_redirect":
                    stdin = self._heredoc(node)
                    _, more, _ = self._redirects([c for c in node.named_children if c.type == "file_redirect"], None)
                    writes += more
                    rest += [
                        c
                        for c in node.named_children
                        if c.type in ("pipeline", "command", "list", "subshell", "redirected_statement")
                    ]
                case "file_redirect":
                    target = node.child_by_field_name("destination")
                    words = [] if target is None else self._expander().fields(target)
                    operator = next((text_of(child) for child in node.children if not child.is_named), ">")
                    if operator.startswith("<") and operator != "<>":
                        stdin = self._file(words[0]) if words else stdin
                    else:
                        writes += [(word, operator) for word in words]
                case _:
                    rest.append(node)
        return stdin, writes, rest

    def _heredoc(self, node: "Node") -> str:
        body = next((child for child in node.named_children if child.type == "heredoc_body"), None)
        start = next((child for child in node.named_children if child.type == "heredoc_start"), None)
        if body is None:
            return ""
        plain = start is not None and re.search(r"['\"\\]", text_of(start)) is not None
        text = text_of(body) if plain else self._expander().heredoc(body)
        return re.sub(r"^\t+", "", text, flags=re.MULTILINE) if text_of(node).startswith("<<-") else text

    def _written(self, writes: list[tuple[str, str]], out: str, body: "Node | None") -> None:
        for path, operator in writes:
            self._found(judge_write(path, operator, self._target()))
            full = absolute(path, self.env.cwd) or path
            if told(full):
                before = self.env.files.get(full, "") if operator.startswith(">>") else ""
                self.env.files[full] = (before + out)[:LONGEST]
            if path.startswith(("/dev/tcp/", "/dev/udp/")) and body is not None:
                said = re.split(r"[\s/]+", text_of(body))
                if SHELLS & set(said):
                    self._found(Finding("remote_shell", "gives a shell to whoever is at the other end of a connection"))
            elif re.search(r"/\.(bash|zsh|profile)\w*$|/etc/(profile|cron|rc)|/\.config/autostart/", full) and told(
                out
            ):
                self._script(out, None, [])  # it is going to be run, only later

    def _broken(self, node: "Node", stdin: str | None) -> None:
        """Look at the words of a part that the grammar does not understand, such as `{rm,-rf,/}`."""
        if self._depth > 3 or any(child.type in ("command", "ERROR") for child in node.named_children):
            return
        for part in _COMMANDS.split(text_of(node)[:2000]):
            if part.strip().startswith("{") and "," in part and " " not in part.strip():
                self._execute(re.split("[{},]+", part.strip())[1:-1], stdin)
                continue
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            if words:
                self._execute(words, stdin)

    # ---- commands

    def _command(self, node: "Node", stdin: str | None) -> str:
        expander = self._expander()
        argv: list[str] = []
        redirects: list[Node] = []
        own: list[Node] = []
        for child in node.named_children:
            if child.type.endswith("_redirect"):
                redirects.append(child)
            elif child.type == "variable_assignment" and not argv:
                own.append(child)
            else:
                if own and own[-1].end_point[0] < child.start_point[0]:
                    # The grammar takes several assignments on a line of their own for a part of the next command.
                    for assignment in own:
                        self._assign(assignment, self.env)
                    own = []
                argv += expander.fields(child)
        stdin, writes, _ = self._redirects(redirects, stdin)
        for child in own:
            self._assign(child, self.env if not argv else self.env.copy())
        out = self._execute(argv, stdin) if argv else ""
        self._written(writes, out, node)
        return out


def _forks_itself(body: "Node", name: str) -> bool:
    """Return whether a function's body starts the function more than once, or in the background."""
    calls = 0
    apart = False
    pending = [body]
    while pending:
        node = pending.pop()
        if node.type == "command" and re.split(r"[\s&;]", text_of(node).lstrip(), maxsplit=1)[0] == name:
            calls += 1
            parent = node.parent
            apart = apart or (parent is not None and parent.type == "pipeline")
        apart = apart or (node.type == "&" and calls >= 0)
        pending += node.children
    return calls > 1 and apart
