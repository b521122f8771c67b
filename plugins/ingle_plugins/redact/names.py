"""Names of persons, by lists of given names and surnames and by the words before them. No model, so no certainty.

The lists are those of mimesis (MIT), a maintained generator of test data: some 30,000 given names and 35,000 surnames
of some 35 languages, whose files are read without importing it; and, of languages that it lacks, those of faker-js
(MIT, `plugins/renew_names.py`). Found are two to four capitalised words that follow each other, of which the first is
a known given name, or the last a known surname or one by its ending; and capitalised words behind a title or "my name
is". A given name alone is not found: in prompts it is more often a word.
"""

import importlib.util
import json
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ingle_plugins.linear import compiled
from ingle_plugins.redact.spans import Span

WORD = r"(?:[OD]'|Mc|Mac)?\p{Lu}[\p{L}\p{M}]*\p{Ll}[\p{L}\p{M}]*" "(?:['\u2019-]" r"\p{L}[\p{L}\p{M}]*){0,3}"
PARTICLE = (
    r"(?:van|von|vom|zu|zum|zur|der|den|die|ter|ten|te|'t|de|del|della|di|da|dos|das|do|du|des|la|le|los|las|el|al|y|e|"
    "af|av|Ó|Ní|Nic|Uí|bin|ibn|ben|[Dd]['\u2019])"
)
STEP = rf"(?: {PARTICLE}){{0,3}} (?:\p{{Lu}}\. ?){{0,3}}{WORD}"
RUN = rf"(?:^|[^\w.@/#$%\\-])({WORD}(?: \p{{Lu}}\.){{0,3}}(?:{STEP}){{1,3}})"
TITLES = (
    r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Sir|Lady|Herr|Herrn|Frau|Monsieur|Madame|Mme|M|Señor|Señora|Sr|Sra|Signor|Signora|"
    r"Sig|Dott|Pan|Pani|Dear|Dearest|Liebe|Lieber|Cher|Chère|Estimado|Estimada|Querido|Querida|Caro|Cara)"
)
SAID = r"[Mm]y name is|[Ii]ch heiße|[Mm]ein Name ist|[Jj]e m'appelle|[Mm]e llamo|[Mm]i chiamo"
TITLED = rf"(?:^|[^\w])(?:{TITLES}\.?(?: {TITLES}\.?){{0,2}}|{SAID}) ({WORD}(?:{STEP}){{0,3}})"


IRISH = frozenset(("Ó", "Ní", "Nic", "Uí"))
"""What only a surname has before it."""
SURNAME = (
    r"^(?:o'|mc)[a-z]{3,}$|^[a-z-]{2,}(?:"
    "shvili|[ai]dze|[bdglmnrstz]yan|"  # Georgian, Armenian
    "enko|chuk|yev|yeva|[oe]vich|[oe]vna|[oe]vsky|[oe]vskaya|[oe]wski|[oe]wska|[oei]wicz|[oe]vic|"  # Slavic
    "auskas|auskaite|auskiene|[knst]iene|aite|iute|[ae]vicius|"  # Lithuanian
    "opoulos|opoulou|iadis|idis|akis|oglu|zade|zadeh|nejad|escu|dottir|qvist|quist|"  # Greek to Nordic
    "krishnan|murthy|swamy|narayanan|chandran|sundaram)$"  # of southern India
)
"""Surnames, folded, that no list has to know: hardly any other word begins or ends so."""


@lru_cache(maxsize=1)
def no_names() -> frozenset[str]:
    """Return words that begin sentences or stand in titles, and are somebody's name somewhere."""
    return frozenset(shipped("no_names"))


@lru_cache(maxsize=1)
def lists() -> tuple[frozenset[str], frozenset[str]]:
    """Return all given names and all surnames that are known, folded."""
    given, surnames = of_mimesis()
    return given.union(shipped("given_names")) - no_names(), surnames.union(shipped("surnames")) - no_names()


def shipped(name: str) -> list[str]:
    """Return the names of one of our own files."""
    return (files(__package__) / "data" / f"{name}.txt").read_text(encoding="utf-8").split()


def of_mimesis() -> tuple[frozenset[str], frozenset[str]]:
    """Return the given names and surnames of mimesis, folded."""
    spec = importlib.util.find_spec("mimesis")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("names of persons need the package mimesis: install ingle[plugins], or set name = false")
    given: set[str] = set()
    surnames: set[str] = set()
    for path in Path(spec.submodule_search_locations[0]).glob("datasets/*/person.json"):
        table = json.loads(path.read_bytes())
        given.update(folded(name) for name in texts(table.get("names")))
        surnames.update(folded(name) for name in texts(table.get("surnames")))
    return frozenset(given), frozenset(surnames)


def texts(value: Any) -> Iterator[str]:
    """Yield every text within lists and tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def folded(name: str) -> str:
    """Return a name without case, accents and what the accents are written as elsewhere."""
    plain = name.translate(LETTERS)
    if not plain.isascii():
        plain = "".join(sign for sign in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(sign))
    return plain.casefold()


LETTERS = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "\u2019": "'"})


def find_names(text: str) -> Iterator[Span]:
    """Yield where names of persons stand."""
    for match in compiled(RUN).finditer(text):
        start = match.start(1)
        words = match.group(1).split(" ")
        while len(words) > 1 and not begins(words[0], words[1:]):
            start += len(words.pop(0)) + 1
        while len(words) > 1 and folded(words[-1]) in no_names():
            words.pop()
        if len(words) > 1 and any(word[0].isupper() for word in words[1:]):
            yield Span(start, start + len(" ".join(words)), "name")
    for match in compiled(TITLED).finditer(text):
        if folded(match.group(1).split(" ")[0]) not in no_names():
            yield Span(match.start(1), match.end(1), "name")


def begins(word: str, others: list[str]) -> bool:
    """Tell whether a name begins with this word, others following."""
    given, surnames = lists()
    first = folded(word)
    if (first in no_names() and first not in MONTHS) or not first[0].isalpha() or word[0].islower():
        return False
    if first in given or first.split("-")[0] in given:
        return True
    if len(others) > 1 and folded(others[0]) in given:
        return False  # "Tell Mary Miller": the name begins later
    last = next((folded(other) for other in reversed(others) if other[0].isupper() and len(other) > 2), "")
    return (
        last in surnames
        or bool(IRISH.intersection(others))
        or (len(last) >= SHORTEST and compiled(SURNAME).search(last) is not None and last not in no_names())
    )


MONTHS = frozenset(("jan", "april", "may", "june", "august"))
"""Given names that are other words more often, unless a surname follows."""
SHORTEST = 6
"""Letters from which on an ending says something: `Kiev` is none, nor is `Libyan`."""
