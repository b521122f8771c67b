"""Requests that look known and are not: the words that matter are replaced, so ember must say that it does not know.

Without them a tiny model answers whatever begins like a request with the nearest command. Pure.
"""

import random
import re
from functools import cache
from typing import Final

from bench.ember.phrasing import ENDS, NOUNS, ORDERS, QUESTIONS, Piece
from bench.ember.templates import FOLDER
from bench.ember.words import invented, word

PLAIN: Final = """
a an the all any my your this that these those it its is are am was were be been do does did have has how what which who
where when why can could will would should and or of to for from with by on at as than into out up down no not only just
me i you we they here there now please so if each every some more most less one first last than over about
"""
"""Words that say nothing of what is wanted; beside these those of the macros and of politeness."""


@cache
def empty_words() -> frozenset[str]:
    """Return the words that stay."""
    texts = [PLAIN, *ORDERS, *NOUNS, *QUESTIONS, *ENDS]
    lines = (FOLDER / "macros.txt").read_text().splitlines()
    texts += [line.partition("=")[2] for line in lines if line.startswith(("show", "find", "in ", "make"))]
    return frozenset(found for text in texts for found in re.findall(r"[a-z]+", text.lower()))


def estrange(pieces: tuple[Piece, ...], foreign: tuple[str, ...], dice: random.Random) -> str | None:
    """Return the sentence with all words of meaning replaced, or None where there are none."""
    count = 0

    def other(found: re.Match[str]) -> str:
        nonlocal count
        if found[0].lower() in empty_words():
            return found[0]
        count += 1
        way = dice.random()
        new = dice.choice(foreign) if way < 0.4 else word(dice) if way < 0.7 else invented(dice)
        return new.capitalize() if found[0][0].isupper() else new

    keep = dice.random() < 0.5
    parts = []
    for text, argument in pieces:
        if argument:
            parts.append(text if keep else dice.choice((word, invented))(dice))
        else:
            parts.append(re.sub(r"[A-Za-z]{2,}", other, text))
    return "".join(parts) if count else None
