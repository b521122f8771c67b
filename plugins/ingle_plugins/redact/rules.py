"""Secrets by the rules of gitleaks: `data/gitleaks.toml` is their file, unchanged, under its MIT license.

Those of others are in the same form (`plugins/renew_rules.py`).

The rules are written for RE2, which matches in linear time whatever the text; so does this module. What gitleaks knows
and a prompt has not is left out: paths of files and commits. Rules that hold only for files of one name are not used.
"""

import math
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import re2

from ingle_plugins.linear import compiled, settings
from ingle_plugins.redact.spans import Span

FILES = ("gitleaks.toml", "credsweeper.toml", "detect_secrets.toml", "noseyparker.toml", "more.toml")


@dataclass(frozen=True, slots=True)
class Allow:
    """What a rule finds and does not mean."""

    target: str
    regexes: tuple[str, ...]
    stopwords: tuple[str, ...]

    def allows(self, secret: str, match: str, line: str) -> bool:
        """Tell whether this is no secret."""
        text = {"match": match, "line": line}.get(self.target, secret)
        low = secret.lower()
        return any(compiled(regex).search(text) for regex in self.regexes) or any(
            word in low for word in self.stopwords
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One format of secrets. Looked for only where one of its keywords stands in the text."""

    id: str
    regex: str
    keywords: tuple[str, ...]
    entropy: float
    group: int
    allow: tuple[Allow, ...]

    def find(self, text: str) -> Iterator[Span]:
        """Yield where the secrets of this format stand."""
        for match in compiled(self.regex).finditer(text):
            group = self.group or next((number for number, found in enumerate(match.groups(), 1) if found), 0)
            start, end = match.span(group)
            secret = text[start:end]
            if start == end or (self.entropy and entropy(secret) <= self.entropy):
                continue
            first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
            line = text[first : last if last >= 0 else len(text)]
            if not any(allow.allows(secret, match.group(), line) for allow in self.allow):
                yield Span(start, end, "secret")


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """Return all rules."""
    made: list[Rule] = []
    for name in FILES:
        table = tomllib.loads((files(__package__) / "data" / name).read_text(encoding="utf-8"))
        everywhere = allowed(table.get("allowlist", {}))
        made += [rule(entry, everywhere) for entry in table["rules"] if "regex" in entry and "path" not in entry]
    return tuple(made)


def rule(entry: dict[str, Any], everywhere: Allow) -> Rule:
    """Read one rule. A list that asks for a path as well (AND) allows nothing here."""
    own = [allowed(each) for each in entry.get("allowlists", []) if each.get("condition") != "AND"]
    keywords = tuple(word.lower() for word in entry.get("keywords", ()))
    group = entry.get("secretGroup", 0)
    return Rule(entry["id"], entry["regex"], keywords, entry.get("entropy", 0.0), group, (everywhere, *own))


def allowed(entry: dict[str, Any]) -> Allow:
    """Read one list of what is allowed."""
    words = tuple(word.lower() for word in entry.get("stopwords", ()))
    return Allow(entry.get("regexTarget", "secret"), tuple(entry.get("regexes", ())), words)


def find_secrets(text: str) -> Iterator[Span]:
    """Yield where secrets of known formats stand."""
    words, of_word = keywords()
    low = text.lower()
    found = words.Match(low)
    if found is None:  # there is none, or no memory for the search: then no secret must get by
        wanted = {number for number, each in enumerate(rules()) if any(word in low for word in each.keywords)}
    else:
        wanted = {number for word in found for number in of_word[word]}
    for number, each in enumerate(rules()):
        if number in wanted:
            yield from each.find(text)


@lru_cache(maxsize=1)
def keywords() -> tuple[Any, list[list[int]]]:
    """Return what finds all keywords in one pass over a text, and for each of them the numbers of its rules."""
    numbers: dict[str, list[int]] = {}
    for number, each in enumerate(rules()):
        for word in each.keywords:
            numbers.setdefault(word, []).append(number)
    found = re2.Set.SearchSet(settings())
    for word in numbers:
        found.Add(re2.escape(word))
    found.Compile()
    return found, list(numbers.values())


def entropy(text: str) -> float:
    """Return Shannon's entropy in bits for each character, as gitleaks reckons it."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


TOKEN = r"[A-Za-z0-9+/_=-]{20,512}"


def find_random(text: str, threshold: float) -> Iterator[Span]:
    """Yield where words stand that look random.

    That is as much entropy as asked for, in letters of both cases and digits; or, with ONE_CASE less, in at least 24
    letters of one case and digits. A hexadecimal number alone is none: hashes of files and commits are no secrets.
    A word of n characters has at most log2(n) bits, so 24 characters reach 4.58 at most. Alphabets are no secrets.
    """
    for match in compiled(TOKEN).finditer(text):
        word = match.group()
        if compiled(ALPHABET).search(word):
            continue
        digits, lower, upper = (sum(map(test, word)) for test in (str.isdigit, str.islower, str.isupper))
        if lower and upper:
            least = threshold
        elif len(word) >= 24 and digits >= 3 and word.isalnum() and not compiled(HEXADECIMAL).search(word):
            least = threshold - ONE_CASE
        else:
            continue
        if digits and entropy(word) >= least:
            yield Span(match.start(), match.end(), "secret")


ALPHABET = r"(?i)abcdefghij|0123456789[a-f]"
HEXADECIMAL = r"(?i)^[0-9a-f]+$"
ONE_CASE = 0.6
