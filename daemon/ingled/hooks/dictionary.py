"""Replacing fixed texts in a stream: the same output however the text is cut. Pure.

Of texts that begin at one place the longest counts; of texts that overlap the one that begins first. Text is held back
only while it is the beginning of some key (or of a longer one), so that most text goes out at once.
"""

import re
from collections.abc import Mapping


class Dictionary:
    """A handler that replaces each of many fixed texts by its own replacement.

    With `ignore_case` the keys match in any case of their ASCII letters.
    """

    def __init__(self, replacements: Mapping[str, str], ignore_case: bool = False) -> None:
        if "" in replacements:
            raise ValueError("the empty text cannot be replaced")
        self._fold = ignore_case
        self._values = {self._folded(key): value for key, value in replacements.items()}
        self._beginnings = {key[:length] for key in self._values for length in range(1, len(key))}
        self._lengths = sorted({len(key) for key in self._values}, reverse=True)
        firsts = {key[0] for key in self._values}
        self._first = re.compile("|".join(map(re.escape, firsts)) if firsts else "(?!)")
        self._text = ""

    @property
    def held(self) -> int:
        """Return how many characters of the input are in no output yet."""
        return len(self._text)

    def feed(self, text: str) -> str:
        """Return what can no longer change, now that this text has come."""
        return self._decide(self._text + text, last=False)

    def flush(self) -> str:
        """Return the rest, as if the text ended here."""
        return self._decide(self._text, last=True)

    def _decide(self, text: str, last: bool) -> str:
        """Replace whatever is complete; keep what is the beginning of a key."""
        folded, at, place, out = self._folded(text), 0, 0, []
        end = len(text) if last else self._open(folded, 0)
        while (candidate := self._first.search(folded, place)) and candidate.start() < end:
            start = candidate.start()
            key = self._key(folded, start)
            place = start + max(len(key), 1)
            if key:
                out += [text[at:start], self._values[key]]
                at = place
                if at > end:  # what seemed to be a beginning was within this key
                    end = self._open(folded, at)
        out.append(text[at:end])
        self._text = text[end:]
        return "".join(out)

    def _key(self, folded: str, at: int) -> str:
        """Return the longest key that stands at this place, or an empty text."""
        texts = (folded[at : at + length] for length in self._lengths)
        return next((text for text in texts if text in self._values), "")

    def _open(self, folded: str, at: int) -> int:
        """Return where, from `at` on, the beginning of a key begins that the end of the text cuts off."""
        longest = self._lengths[0] if self._lengths else 1
        for start in range(max(at, len(folded) - longest + 1), len(folded)):
            if folded[start:] in self._beginnings:
                return start
        return len(folded)

    def _folded(self, text: str) -> str:
        """Return the text as keys are compared. Only ASCII: other letters change their number with their case."""
        return text.translate(LOWER) if self._fold else text


LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
