"""What a shell would know at a place in a script, as far as that can be told without running it."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ingle_plugins.guard.paths import HOME, UNKNOWN

if TYPE_CHECKING:
    from tree_sitter import Node

DOWNLOADED = "\x01"
"""Stands for text that came over the network, DECODED for what came out of a decoder that had unknown input."""
DECODED = "\x02"
UNTOLD = frozenset((UNKNOWN, DOWNLOADED, DECODED))

LONGEST = 1 << 16
"""Characters of a value; what is longer is cut. Doubling a variable a hundred times must cost nothing."""

_PRESET = {"HOME": HOME, "IFS": " \t\n", "SHELL": "/bin/bash", "EUID": "0", "UID": "0", "ROOT": UNKNOWN}


@dataclass(slots=True)
class Environment:
    """Variables, functions, files that the script itself has written, and the folder that it is in."""

    variables: dict[str, list[str]] = field(default_factory=lambda: {name: [text] for name, text in _PRESET.items()})
    functions: dict[str, "Node"] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    positional: list[str] = field(default_factory=list)
    cwd: str | None = None

    def copy(self) -> "Environment":
        """Return an environment for a subshell, whose changes are lost with it."""
        return replace(
            self,
            variables=dict(self.variables),
            functions=dict(self.functions),
            aliases=dict(self.aliases),
            files=dict(self.files),
            positional=list(self.positional),
        )

    def value(self, name: str) -> list[str]:
        """Return what a variable or a parameter stands for: one text, or those of an array."""
        if name in ("@", "*"):
            return self.positional or [UNKNOWN]
        if name.isdigit():
            index = int(name)
            if index == 0:
                return ["bash"]
            return self.positional[index - 1 : index] or [UNKNOWN]
        if name == "PWD":
            return [self.cwd or UNKNOWN]
        return self.variables.get(name) or [UNKNOWN]

    def assign(self, name: str, values: list[str]) -> None:
        """Set a variable."""
        self.variables[name] = [text[:LONGEST] for text in values[:1000]]


def told(text: str) -> bool:
    """Return whether all of a text is known."""
    return UNTOLD.isdisjoint(text)


def untold(text: str) -> str:
    """Return the mark that says best why a text is not known; what was downloaded stays so whatever is done to it."""
    return next((mark for mark in (DOWNLOADED, DECODED) if mark in text), UNKNOWN)
