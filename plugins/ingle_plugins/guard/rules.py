"""Rules about what is said: keywords and patterns of the policy, matched in time linear in the text.

The expressions are RE2's: no text, however it is made, makes one of them slow.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

from ingle_plugins.linear import said, settings

Action = Literal["refuse", "flag"]
Where = Literal["user", "system", "context", "answer"]


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic or a misuse that the policy names."""

    keywords: list[str] = []
    """Words or phrases, in any case; one that ends in `*` is the beginning of a word."""
    patterns: list[str] = []
    """Regular expressions in RE2's syntax."""
    action: Action = "flag"
    where: tuple[Where, ...] = ("user",)
    """Whose words: the user's, the system prompt's, those of context that tools offer, the answer's."""
    message: str = ""
    """What the user reads when it refuses; without it, the rule's name is told."""


def seen(text: str) -> str:
    """Return a text as a reader sees it: letters that only look different are the same, invisible ones are gone."""
    text = unicodedata.normalize("NFKC", text)
    if text.isascii():
        return text
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cf")


def _keyword(word: str) -> str:
    prefix = word.endswith("*")
    parts = [re.escape(part) for part in seen(word.rstrip("*")).split()]
    end = "" if prefix else r"(?:$|[^\pL\pN_])"
    return r"(?:^|[^\pL\pN_])" + r"\s+".join(parts) + end


@dataclass(frozen=True)
class Matcher:
    """Named expressions that are looked for together."""

    expressions: tuple[tuple[str, str], ...]
    """Name and expression; several may have the same name."""

    @classmethod
    def of(cls, rules: dict[str, Rule]) -> "Matcher":
        """Return a matcher for rules."""
        found = [(name, _keyword(word)) for name, rule in rules.items() for word in rule.keywords]
        return cls((*found, *((name, pattern) for name, rule in rules.items() for pattern in rule.patterns)))

    @cached_property
    def _set(self) -> Any:
        import re2

        options = settings(case_sensitive=False)
        together = re2.Set.SearchSet(options)
        for name, expression in self.expressions:
            try:
                re2.compile(expression, options)  # says what is wrong, which a set does not
                together.Add(expression)
            except re2.error as error:
                raise ValueError(f"rules.{name}: {expression!r}: {said(error)}") from None
        together.Compile()
        return together

    def check(self) -> None:
        """Raise ValueError where an expression is wrong."""
        if self.expressions:
            _ = self._set

    def find(self, text: str) -> list[str]:
        """Return the names of what is in a text (as `seen` gives it), each once, in the order of the policy."""
        if not self.expressions or not text:
            return []
        hits = set(self._set.Match(text) or ())
        return list(dict.fromkeys(name for at, (name, _) in enumerate(self.expressions) if at in hits))
