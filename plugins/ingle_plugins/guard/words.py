"""From a word of a script to what the shell makes of it: quotes, variables, substitutions, braces, splitting."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ingle_plugins.guard.environment import LONGEST, Environment, untold
from ingle_plugins.guard.paths import HOME, UNKNOWN

if TYPE_CHECKING:
    from tree_sitter import Node

_SPLIT = "\x03"
_QUOTED = {"{": "\x04", ",": "\x05", "}": "\x06", "~": "\x07"}
_PLAIN = str.maketrans({mark: char for char, mark in _QUOTED.items()})
_QUOTE = str.maketrans(_QUOTED)
MARKS = re.compile("[\x00-\x08]")
"""Characters with a meaning here: the text of others must not hold them."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_SEQUENCE = re.compile(r"(\w+)\.\.(\w+)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|U[0-9a-fA-F]{1,8}|0?[0-7]{1,3}|.)", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}
_PARAMETER = re.compile(r"\$\{([!#]?)(\w+|[@*#?$!-])(\[[^\]]*\])?(.*)\}", re.DOTALL)
_FIELDS = 1000


def text_of(node: "Node") -> str:
    """Return a node's source."""
    return (node.text or b"").decode(errors="replace")


def unescape(text: str) -> str:
    """Return a text with the escapes of `$'...'`, `echo -e` and `printf` resolved."""

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            number = int(code[1:], 16)
        elif code[0] in "01234567":
            number = int(code, 8)
        else:
            return _NAMED.get(code, code if code in "\\'\"?" else match[0])
        if not number:  # what is separated by it is so by a line end as well, and NUL is a mark here
            return "\n"
        return "?" if number < 9 or number > 0x10FFFF or 0xD800 <= number < 0xE000 else chr(number)

    return _ESCAPE.sub(one, text)


class Expander:
    """Expands words in an environment; `substitute` runs a command substitution and returns what it prints."""

    def __init__(self, env: Environment, substitute: "Callable[[Node], str]", process: "Callable[[Node], str]") -> None:
        self._env = env
        self._substitute = substitute
        self._process = process

    def fields(self, node: "Node") -> list[str]:
        """Return the words that a word becomes."""
        return self._split(self._flat(node, quoted=False))

    def text(self, node: "Node") -> str:
        """Return the one text that a word becomes where it is not split, as in an assignment."""
        return self._flat(node, quoted=True, plain=True).replace(_SPLIT, " ").translate(_PLAIN)

    def array(self, node: "Node") -> list[str]:
        """Return the elements of `(a b c)`."""
        return [word for child in node.named_children for word in self.fields(child)]

    def heredoc(self, node: "Node") -> str:
        """Return a here-document's body with its expansions made."""
        return "".join(self._inside(node, quoted=True)).replace(_SPLIT, " ").translate(_PLAIN)

    def _split(self, flat: str) -> list[str]:
        words = [word for word in flat.split(_SPLIT) if word] if _SPLIT in flat else [flat]
        found: list[str] = []
        room = LONGEST * 4
        for word in words:
            for one in _braces(word[:LONGEST]):
                found.append(_tilde(one, self._env).translate(_PLAIN))
                room -= len(one)
                if room < 0 or len(found) >= _FIELDS:
                    return found
        return found

    def _flat(self, node: "Node", *, quoted: bool, plain: bool = False) -> str:
        """Return a word's text; quoted special characters and places to split at are marked."""
        match node.type:
            case "word" | "number" | "variable_name" | "special_variable_name" | "test_operator" | "regex":
                text = _unquote(text_of(node))
                return _tilde(text, self._env) if plain else text
            case "string_content" | "heredoc_content":
                return re.sub(r"\\([\"$`\\\n])", _kept, text_of(node)).translate(_QUOTE)
            case "raw_string":
                return text_of(node)[1:-1].translate(_QUOTE)
            case "ansi_c_string":
                return unescape(text_of(node)[2:-1]).translate(_QUOTE)
            case "string":
                return "".join(self._inside(node, quoted=True))
            case "translated_string" | "concatenation" | "command_name" | "arithmetic_expansion_":
                return "".join(self._flat(child, quoted=quoted, plain=plain) for child in node.named_children)
            case "simple_expansion":
                return self._value(text_of(node).strip()[1:], quoted)
            case "expansion":
                return self._parameter(node, quoted)
            case "command_substitution":
                return self._loose(self._substitute(node).rstrip("\n"), quoted)
            case "process_substitution":
                return self._process(node)
            case "array":
                return _SPLIT.join(self.array(node))
            case "brace_expression":
                return text_of(node)
            case _:
                return UNKNOWN

    def _inside(self, node: "Node", *, quoted: bool) -> Iterator[str]:
        """Yield the parts of a quoted text; the grammar gives some of its blanks to the neighbours, or to nobody."""
        raw, start = node.text or b"", node.start_byte
        at = 0 if node.type != "string" else len(raw) - len(raw.lstrip()) + 1
        for child in node.named_children:
            first, last = child.start_byte - start, child.end_byte - start
            source = child.text or b""
            blank = len(source) - len(source.lstrip()) if child.type.endswith("expansion") else 0
            yield _string(raw[at : first + blank])
            if child.type not in ("heredoc_content", "string_content") or source:
                yield self._flat(child, quoted=quoted)
            at = max(at, last)
        end = len(raw) - 1 if node.type == "string" and raw.endswith(b'"') else len(raw)
        yield _string(raw[at:end])

    def _value(self, name: str, quoted: bool) -> str:
        values = self._env.value(name)
        if name == "@" or len(values) > 1:
            return _SPLIT.join(value.translate(_QUOTE) if quoted else value for value in values)
        return self._loose(" ".join(values), quoted)

    @staticmethod
    def _loose(text: str, quoted: bool) -> str:
        if quoted:
            return text.translate(_QUOTE)
        text = text.translate(_QUOTE)
        return re.sub(r"[ \t\n]+", _SPLIT, text)

    def _parameter(self, node: "Node", quoted: bool) -> str:
        match = _PARAMETER.fullmatch(text_of(node).strip())
        if match is None:
            return UNKNOWN
        sign, name, index, rest = match.groups()
        if sign == "#":
            return UNKNOWN
        if sign == "!":
            (name, *_), rest = (*self._env.value(name), ""), ""
            if UNKNOWN in name:
                return UNKNOWN
        values = self._env.value(name)
        if index in ("[@]", "[*]") or (name in ("@", "*")):
            if not rest:
                return _SPLIT.join(value.translate(_QUOTE) for value in values)
        elif index is not None:
            number = index[1:-1]
            values = values[int(number) : int(number) + 1] if number.isdigit() else [UNKNOWN]
        known = (values or [UNKNOWN])[0]
        is_set = name in self._env.variables or (name.isdigit() and int(name) <= len(self._env.positional))
        return self._loose(self._changed(node, known, is_set, rest)[:LONGEST], quoted)

    def _changed(self, node: "Node", value: str, is_set: bool, rest: str) -> str:
        """Return what `${name...}` makes of a value."""
        if not rest:
            return value
        if (match := re.match(r":?([-=+?])", rest)) is not None:
            operator = match[1]
            if operator == "?" or (operator in "-=" and is_set):
                return value
            words = [child for child in node.named_children if child.type not in ("variable_name", "subscript")]
            return "".join(self._flat(word, quoted=True) for word in words).translate(_PLAIN)
        if any(mark in value for mark in "\x00\x01\x02"):
            return untold(value)
        if rest in (",,", "^^", ",", "^"):
            changed = value.lower() if "," in rest else value.upper()
            return changed if len(rest) == 2 else changed[:1] + value[1:]
        if (match := re.fullmatch(r":\s*(-?\d+)(?::(-?\d+))?", rest)) is not None:
            start = int(match[1])
            end = None if match[2] is None else int(match[2]) + (start if int(match[2]) >= 0 else 0)
            return value[start:end]
        if (match := re.fullmatch(r"(//?)([^/*?\[]+)(?:/([^$`]*))?", rest)) is not None:
            return value.replace(match[2], match[3] or "", -1 if match[1] == "//" else 1)
        if (match := re.fullmatch(r"(##?|%%?)([^*?\[$`]+)", rest)) is not None:
            return value.removeprefix(match[2]) if "#" in rest else value.removesuffix(match[2])
        return UNKNOWN


def _kept(match: re.Match[str]) -> str:
    return "" if match[1] == "\n" else match[1]


def _unquote(text: str) -> str:
    """Return a bare word without its backslashes."""
    return re.sub(r"\\(.)", lambda match: "" if match[1] == "\n" else match[1].translate(_QUOTE), text, flags=re.DOTALL)


def _string(raw: bytes) -> str:
    return re.sub(r"\\([\"$`\\\n])", _kept, raw.decode(errors="replace")).translate(_QUOTE)


def _tilde(word: str, env: Environment) -> str:
    match = re.match(r"~([\w+-]*)(?=/|$)", word)
    if match is None:
        return word
    name = match[1]
    home = {"": HOME, "root": "/root", "+": env.cwd or UNKNOWN, "-": UNKNOWN}.get(name, f"/home/{name}")
    return home + word[match.end() :]


def _braces(word: str) -> list[str]:
    """Return the words of a brace expansion, innermost braces first."""
    pending, done = [word], list[str]()
    while pending and len(done) + len(pending) < _FIELDS:
        word = pending.pop()
        for match in _BRACES.finditer(word):
            sequence = _SEQUENCE.fullmatch(match[1])
            parts = list(sequence.groups()) if sequence else match[1].split(",")
            if len(parts) > 1:
                pending += [word[: match.start()] + part + word[match.end() :] for part in reversed(parts)]
                break
        else:
            done.append(word)
    return done + pending
