"""Words to make arguments from: the pool, and spellings that nobody has seen before. Pure; randomness comes in."""

import random
from pathlib import Path
from typing import Final

POOL: Final = tuple((Path(__file__).parent / "words.txt").read_text().split())
"""Ordinary words, as people name files, folders and things."""

ONSETS: Final = "b br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sc sh sk sl sp st t th tr v w x y z"
NUCLEI: Final = "a e i o u ai ea ee ei ie io oa oo ou y"
CODAS: Final = ["", "", "", "b", "ck", "d", "ft", "g", "l", "lt", "m", "mp", "n", "nd", "ng", "nt", "p", "r", "rd",
                "rk", "s", "sh", "ss", "st", "t", "x"]  # fmt: skip
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def invented(dice: random.Random) -> str:
    """Return a spelling that can be spoken, such as `brandest` or `kiv`."""
    parts = dice.choice((1, 1, 2, 2, 2, 3))
    return "".join(
        dice.choice(ONSETS.split()) + dice.choice(NUCLEI.split()) + dice.choice(CODAS if last else [*CODAS, "", "", ""])
        for last in (at == parts - 1 for at in range(parts))
    )


def scrambled(dice: random.Random) -> str:
    """Return two to seven letters without sense, the last ones perhaps digits."""
    text = "".join(dice.choice(LETTERS) for _ in range(dice.randint(2, 6)))
    return text + str(dice.randint(1, 999)) if dice.random() < 0.3 else text


def word(dice: random.Random) -> str:
    """Return a word: ordinary, invented or scrambled."""
    kind = dice.random()
    if kind < 0.5:
        return dice.choice(POOL)
    return invented(dice) if kind < 0.85 else scrambled(dice)
