"""Where an answer has commands: in code blocks, and where it is itself a command. Pure text, line by line."""

import re
from dataclasses import dataclass

from ingle_plugins.guard.paths import wordset

SHELL = wordset(
    """
    sh bash shell zsh ksh dash ash fish console terminal shell-session shellsession sh-session bash-session command
    """
)
CONSOLE = wordset("console terminal shell-session shellsession sh-session bash-session")
PERHAPS = frozenset(("", "text", "txt", "plaintext", "plain", "code", "none"))
"""Blocks of no language may hold commands, or anything else."""

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*([^`\n]*)")
_PROMPT = re.compile(r"\s*(?:\([\w.-]+\)\s*)?(?:\[?[\w.-]+@[\w.-]+[^\s$#%>]*\s?[^\s$#%>]*)?[$%\u276f\u279c]\s+")
_ROOT_PROMPT = re.compile(r"\s*(?:\[?[\w.-]+@[\w.-]+[^\s$#%>]*\s?[^\s$#%>]*)?#\s+")
_LIST = re.compile(r"\s*(?:(?:[-*+•]|\d+[.)])\s+|>\s?)*(?:\*\*|__)?")
_WORD = re.compile(r"[(\"'*_“„«\[]*([^\W\d_][\w'\u2019-]*)[,:;.!?)\"'*_”“»\]…]*")
_PROSE = wordset(
    """
    the a an is are was were be been will would can could should must may might do does did not this that these
    those it its you your we i he she they there here and or but if because when while which who what how why to of
    in on at with from by as so all every everything never always please note warning don't doesn't isn't deletes
    removes erases der die das und ist nicht ein eine zu mit von le la les un une et est pas de des el los una es no
    y
    """
)


@dataclass(frozen=True, slots=True)
class Fence:
    """An open code block."""

    mark: str
    language: str

    @property
    def shell(self) -> bool:
        """Return whether it holds commands for certain."""
        return self.language in SHELL

    @property
    def perhaps(self) -> bool:
        """Return whether it may hold commands."""
        return self.language in SHELL or self.language in PERHAPS

    def closed_by(self, line: str) -> bool:
        """Return whether a line ends the block."""
        text = line.strip(" \t>\n")
        return len(text) >= len(self.mark) and set(text) == {self.mark[0]}


def opened_by(line: str) -> Fence | None:
    """Return the code block that begins with this line, or None."""
    match = _FENCE.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return None
    words = re.split(r"[\s{},.:]+", match[2].strip().lower().lstrip("{."))
    return Fence(match[1], words[0])


def prose_begins(line: str) -> bool | None:
    """Return whether a line of plain text, of which perhaps only the beginning is there, is a sentence for certain.

    None: too little of it is there.
    """
    rest = line[_LIST.match(line).end() :]  # type: ignore[union-attr]
    if rest[:1] == "#":
        return True  # a heading, or a comment
    word, blank, _ = rest.partition(" ")
    if not blank and not rest.endswith("\n"):
        return None
    match = _WORD.fullmatch(word.rstrip("\n"))
    return match is not None and (match[1][0].isupper() or not match[1].isascii())


def reads_as_prose(line: str) -> bool:
    """Return whether a whole line that begins like a command is a sentence about one."""
    text = line.strip()
    words = re.findall(r"[^\W\d_][\w'\u2019]*", text.lower())
    said = sum(word in _PROSE for word in words)
    return said >= 2 or (said == 1 and text[-1:] in ".!?:" and text[-2:-1].isalpha())


def command_in(line: str) -> str:
    """Return the command in a line of plain text: without list marks, a prompt, or the quotes of inline code."""
    text = line[_LIST.match(line).end() :].rstrip()  # type: ignore[union-attr]
    if match := _PROMPT.match(text):
        text = text[match.end() :]
    inline = re.fullmatch(r"(`+)([^`]+)\1[.:]?(?:\*\*)?", text.strip())
    return inline[2].strip() if inline else text


def without_prompt(line: str, fence: Fence) -> tuple[str, bool]:
    """Return a line of a code block without its prompt, and whether there was one."""
    match = _PROMPT.match(line) or (_ROOT_PROMPT.match(line) if fence.language in CONSOLE else None)
    return (line[match.end() :], True) if match else (line, False)
