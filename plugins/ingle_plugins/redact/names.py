"""Names of persons, by lists of given names and surnames and by the words before them. No model, so no certainty.

The lists are those of mimesis (MIT), a maintained generator of test data: some 30,000 given names and 35,000 surnames of
some 35 languages. Its files are read without importing it. Found are two to four capitalised words that follow each
other, of which the first is a known given name, or the last a known surname; and capitalised words behind a title or
"my name is". A given name alone is not found: in prompts it is more often a word.
"""

import importlib.util
import json
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ingle_plugins.redact.rules import compiled
from ingle_plugins.redact.spans import Span

WORD = r"\p{Lu}[\p{L}\p{M}]*\p{Ll}[\p{L}\p{M}]*(?:['’-]\p{L}[\p{L}\p{M}]*){0,3}"
PARTICLE = r"(?:van|von|vom|zu|zum|zur|der|den|ter|ten|te|de|del|della|di|da|dos|das|do|du|des|la|le|los|las|el|al|y|e|af|av|bin|ibn|[Dd]['’]|ben)"  # noqa: E501
STEP = rf"(?: {PARTICLE}){{0,3}} (?:\p{{Lu}}\. ?){{0,3}}{WORD}"
RUN = rf"(?:^|[^\w.@/#$%\\-])({WORD}(?: \p{{Lu}}\.){{0,3}}(?:{STEP}){{1,3}})"
TITLES = (
    r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Sir|Lady|Herr|Herrn|Frau|Monsieur|Madame|Mme|M|Señor|Señora|Sr|Sra|Signor|Signora|"
    r"Sig|Dott|Pan|Pani|Dear|Dearest|Liebe|Lieber|Cher|Chère|Estimado|Estimada|Querido|Querida|Caro|Cara)"
)
TITLED = rf"(?:^|[^\w])(?:{TITLES}\.?|[Mm]y name is|[Ii]ch heiße|[Mm]ein Name ist|[Jj]e m'appelle|[Mm]e llamo|[Mm]i chiamo) ({WORD}(?:{STEP}){{0,3}})"  # noqa: E501
NO_NAMES = frozenset(
    # Words that begin sentences or stand in titles and are somebody's name somewhere.
    """a about above after all also although an and any are as at back base be because before below best between both but
    by call can case class click code create data day default do does done down each else end error example false file
    first fix follow following for foreign from full general get give good hello here hi hot how i if import in index
    info input into is issue it item its join just key keyword last let like line list load long look made main make
    many may message mode more most name need never new next no none not note now null object of off old on once one
    only open or order other our out over page part plain please print program put python read real return returns
    run same save second section see send set she short show since so some sort special standard start status still stop
    string such system table take test text than thanks that the their then there these they this those three time title
    to today todo too top true try two type under unicode unix until up update use user using value version very via was
    we web well were what when where which while who why will windows with without word world write yes you your
    mac linux java android apple google microsoft united north south east west saint san santa los las el la le les der
    die das den dem des ein eine im am zum zur von und oder mit bei nach aus für auf ist sind war wenn wie was wer un une
    il lo gli i una uno un o os as um uma en sur dans pour par avec et ou que con per tra fra e y
    monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun mo tu we th fr sa su
    january february march april june july august september october november december jan feb mar apr jun jul aug sep
    sept oct nov dec university college street road avenue park city state county republic kingdom states bank
    monty foo bar spam eggs""".split()
)


@lru_cache(maxsize=1)
def lists() -> tuple[frozenset[str], frozenset[str]]:
    """Return all given names and all surnames that are known, folded."""
    spec = importlib.util.find_spec("mimesis")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("names of persons need the package mimesis: install ingle[plugins], or set name = false")
    given: set[str] = set()
    surnames: set[str] = set()
    for path in Path(spec.submodule_search_locations[0]).glob("datasets/*/person.json"):
        table = json.loads(path.read_bytes())
        given.update(folded(name) for name in texts(table.get("names")))
        surnames.update(folded(name) for name in texts(table.get("surnames")))
    return frozenset(given - NO_NAMES), frozenset(surnames - NO_NAMES)


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


LETTERS = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "’": "'"})


def find_names(text: str) -> Iterator[Span]:
    """Yield where names of persons stand."""
    for match in compiled(RUN).finditer(text):
        start = match.start(1)
        words = match.group(1).split(" ")
        while len(words) > 1 and not begins(words[0], words[1:]):
            start += len(words.pop(0)) + 1
        while len(words) > 1 and folded(words[-1]) in NO_NAMES:
            words.pop()
        if len(words) > 1 and any(word[0].isupper() for word in words[1:]):
            yield Span(start, start + len(" ".join(words)), "name")
    for match in compiled(TITLED).finditer(text):
        if folded(match.group(1).split(" ")[0]) not in NO_NAMES:
            yield Span(*match.span(1), "name")


def begins(word: str, others: list[str]) -> bool:
    """Tell whether a name begins with this word, others following."""
    given, surnames = lists()
    first = folded(word)
    if first in NO_NAMES or not first[0].isalpha() or word[0].islower():
        return False
    if first in given or first.split("-")[0] in given:
        return True
    last = next((folded(other) for other in reversed(others) if other[0].isupper() and len(other) > 2), "")
    return last in surnames and last not in NO_NAMES
