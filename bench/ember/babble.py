"""Plain sentences of a small grammar, so that a text that is no request can go on too. Pure and seeded."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from bench.ember.examples import SEED, Example

SUBJECTS: Final = [
    "fire", "fox", "keeper", "child", "owl", "sailor", "baker", "lamp", "house", "river", "cat", "stranger",
]  # fmt: skip
VERBS: Final = ["keeps", "warms", "lights", "watches", "finds", "follows", "carries", "remembers"]
OBJECTS: Final = ["stone", "lamp", "house", "river", "garden", "window", "fire", "door", "story", "candle"]
LOOKS: Final = ["small", "warm", "old", "quiet", "red", "golden"]
PLACES: Final = ["in", "under", "near", "beside", "behind"]
_EMPTY: Final = Example("", "", "babble", "", "", {}, ())


def sentence(dice: random.Random) -> str:
    """Return one sentence."""
    look = dice.choice(["", *(f"{one} " for one in LOOKS)])
    start = f"{dice.choice(('The', 'Our', 'Every'))} {look}{dice.choice(SUBJECTS)} {dice.choice(VERBS)}"
    end = f" {dice.choice(PLACES)} the {dice.choice(OBJECTS)}" if dice.random() < 0.5 else ""
    return f"{start} the {dice.choice(OBJECTS)}{end}."


def sentences() -> Iterator[Example]:
    """Yield short texts without end, as examples that have no answer."""
    dice = random.Random(f"{SEED} babble")
    while True:
        text = " ".join(sentence(dice) for _ in range(8))
        yield replace(_EMPTY, request=text, pieces=((text, False),))
