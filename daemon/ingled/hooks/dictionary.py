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
        keys = sorted(self._values, key=len, reverse=True)  # an alternation takes its first alternative
        flags = re.I | re.A if ignore_case else 0
        self._pattern = re.compile("|".join(map(re.escape, keys)), flags) if keys else None
        self._beginnings = {key[:length] for key in keys for length in range(1, len(key))}
        self._longest = len(keys[0]) if keys else 0
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
        at, out = 0, []
        end = len(text) if last else self._open(text, 0)
        while self._pattern and (match := self._pattern.search(text, at)) and match.start() < end:
            out += [text[at : match.start()], self._values[self._folded(match.group())]]
            at = match.end()
            if at > end:  # what seemed to be a beginning was within this match
                end = self._open(text, at)
        out.append(text[at:end])
        self._text = text[end:]
        return "".join(out)

    def _open(self, text: str, at: int) -> int:
        """Return where, from `at` on, the beginning of a key begins that the end of the text cuts off."""
        for start in range(max(at, len(text) - self._longest + 1), len(text)):
            if self._folded(text[start:]) in self._beginnings:
                return start
        return len(text)

    def _folded(self, text: str) -> str:
        """Return the text as keys are compared. Only ASCII: other letters change their number with their case."""
        return text.translate(LOWER) if self._fold else text


LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
