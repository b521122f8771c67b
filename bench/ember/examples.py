"""Requests with their answers: the training data, the held-out test, and the split between them. Pure and seeded."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from bench.ember.phrasing import Piece, dress, say
from bench.ember.slots import KEYS, Argument, Maker
from bench.ember.strangers import empty_words, estrange
from bench.ember.templates import (
    DOES_NOT_KNOW,
    Intent,
    Slot,
    Template,
    expand,
    fresh_templates,
    intents,
    regex,
    skeleton,
)

SEED: Final = 20
HELD_OUT: Final = 1 / 6
"""The share of templates that training never sees, of each intent, and of whole topics that ember does not know."""
UNSEEN_TOPICS: Final = 3
TEST_COMMANDS, TEST_UNKNOWN = 600, 200
FRESH_COMMANDS, FRESH_UNKNOWN = 2, 3
"""Requests for each fresh template."""
KNOWN, STRANGE = 0.82, 0.05
"""The shares of training that ember should know, and that only look so."""
JSON_ENDS: Final = (" as json", ", as json", " in json", ", answer in json", ", reply with json", ". Answer as JSON.")


@dataclass(frozen=True)
class Example:
    """A request with its answer."""

    request: str
    answer: str
    intent: str
    template: str
    skeleton: str
    arguments: dict[str, str]
    primitives: tuple[str, ...]
    """What the arguments are made of: the test shares none with training."""
    pieces: tuple[Piece, ...] = ()

    @property
    def known(self) -> bool:
        """Say whether there is an answer besides that ember does not know."""
        return self.answer != DOES_NOT_KNOW


@dataclass(frozen=True)
class Split:
    """The templates of an intent: those to learn, and those held out."""

    intent: Intent
    learn: tuple[Template, ...]
    hold: tuple[Template, ...]


@cache
def splits(seed: int = SEED) -> tuple[Split, ...]:
    """Return the split of each intent. A template is held out only if each of its words is in a learnt one too."""
    unknown = sorted(one.name for one in intents() if one.topic == "unknown" and one.name != "no-salad")
    unseen = set(random.Random(f"{seed} topics").sample(unknown, UNSEEN_TOPICS))
    known = Counter(word for intent in intents() for template in intent.templates for word in set(_words(template)))
    found = []
    for intent in intents():
        dice = random.Random(f"{seed} {intent.name}")
        order = list(intent.templates)
        dice.shuffle(order)
        if intent.name in unseen:
            found.append(Split(intent, (), tuple(order)))
            continue
        count = max(1, round(len(order) * HELD_OUT)) if intent.topic != "chat" else 0
        hold: list[Template] = []
        for template in order:
            words = set(_words(template))
            if len(hold) < count and (intent.topic == "unknown" or all(known[one] > 1 for one in words)):
                hold.append(template)
                known.subtract(words)
        found.append(Split(intent, tuple(one for one in order if one not in hold), tuple(hold)))
    return tuple(found)


def _words(template: Template) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"\{\w+[!_]?\}|<\w+>", "", template.text))


@cache
def foreign_words(seed: int = SEED) -> tuple[str, ...]:
    """Return the words of learnt requests that ember does not know."""
    learn = [template for split in splits(seed) for template in split.learn if split.intent.topic == "unknown"]
    found = {word for template in learn for word in _words(template) if len(word) > 2}
    return tuple(sorted(found - empty_words()))


@cache
def learnt_skeletons(seed: int = SEED) -> re.Pattern[str]:
    """Return an expression that matches each skeleton of training, of whatever intent; blanks taken out."""
    ways = [regex(template.pattern) for split in splits(seed) for template in split.learn]
    return re.compile("|".join(f"(?:{way})" for way in ways))


def is_learnt(text: str, seed: int = SEED) -> bool:
    """Say whether training may contain this skeleton."""
    return bool(learnt_skeletons(seed).fullmatch(text.replace(" ", "")))


def example(intent: Intent, template: Template, dice: random.Random, *, test: bool) -> Example:
    """Return a request of this template with new arguments, and its answer."""
    make = Maker(dice, test)
    arguments: dict[str, Argument] = {}
    items = expand(template.pattern, dice)
    pieces: list[Piece] = []
    used: list[str] = []
    for item in items:
        if isinstance(item, str):
            pieces.append((item, False))
            continue
        name = item.name.strip("!_")
        key = KEYS.get(name, name)
        variant = item.name
        if intent.topic == "unknown":
            arguments.pop(key, None)  # each {any} is another word
        if key not in arguments:
            arguments[key] = make.argument(key)
            while arguments[key].special and (variant != name or not _may_be_here(pieces, arguments[key])):
                arguments[key] = make.argument(key)
            used += arguments[key].primitives
        pieces += say("_" if variant.endswith("_") else variant, arguments[key], dice, _text(pieces))
    pieces = dress(_tidied(pieces), template.kind, dice)
    values = {key: argument.value for key, argument in arguments.items()}
    if intent.command is not None:
        answer = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], intent.command)
    else:
        assert intent.reply is not None
        answer = "".join(item for item in expand(intent.reply, dice) if isinstance(item, str))
    return Example(
        _text(pieces), answer, intent.name, template.text, skeleton(items), values, tuple(used), tuple(pieces)
    )


def _may_be_here(pieces: list[Piece], argument: Argument) -> bool:
    return argument.special != "here" or _text(pieces).endswith(("under ", "below ", "inside ", "beneath "))


def _text(pieces: list[Piece]) -> str:
    return "".join(text for text, _ in pieces)


def _tidied(pieces: list[Piece]) -> list[Piece]:
    """Close the gaps of empty alternatives, without touching arguments."""
    merged: list[Piece] = []
    for text, argument in pieces:
        if merged and not argument and not merged[-1][1]:
            merged[-1] = (merged[-1][0] + text, False)
        else:
            merged.append((text, argument))
    tidied = [(text if argument else re.sub("  +", " ", text), argument) for text, argument in merged]
    if tidied and not tidied[0][1]:
        tidied[0] = (tidied[0][0].lstrip(), False)
    if tidied and not tidied[-1][1]:
        tidied[-1] = (tidied[-1][0].rstrip(), False)
    return [(text if argument else re.sub(r" +(?=[,.?!]( |$))", "", text), argument) for text, argument in tidied]


def training(seed: int = SEED) -> Iterator[Example]:
    """Yield examples of training without end."""
    dice = random.Random(f"{seed} training")
    learn = [split for split in splits(seed) if split.learn]
    known = [split for split in learn if split.intent.topic not in ("unknown", "chat")]
    unknown = [split for split in learn if split.intent.topic == "unknown"]
    chat = [split for split in learn if split.intent.topic == "chat"]
    known_weights = [weight(split.intent) for split in known]
    unknown_weights = [5.0 if split.intent.name == "no-salad" else 1.0 for split in unknown]
    while True:
        way = dice.random()
        if way < KNOWN + STRANGE:
            split = dice.choices(known, known_weights)[0]
        elif way < 0.985:
            split = dice.choices(unknown, unknown_weights)[0]
        else:
            split = dice.choice(chat)
        one = example(split.intent, dice.choice(split.learn), dice, test=False)
        if KNOWN <= way < KNOWN + STRANGE:
            request = estrange(one.pieces, foreign_words(seed), dice)
            if request is None:
                continue
            one = replace(one, request=request, answer=DOES_NOT_KNOW, intent="strange", pieces=((request, True),))
        yield one


def weight(intent: Intent) -> float:
    """Return how often an intent is trained: more where there are arguments to copy."""
    slots = len(set(re.findall(r"\{(\w+)\}", intent.command or "")))
    return 0.5 + 0.4 * slots


def held_out(seed: int = SEED) -> list[Example]:
    """Return the test: templates and arguments that training never sees, evenly over the intents."""
    dice = random.Random(f"{seed} test")
    found: list[Example] = []
    for known, count in ((True, TEST_COMMANDS), (False, TEST_UNKNOWN)):
        hold = [split for split in splits(seed) if split.hold and (split.intent.topic != "unknown") == known]
        seen: set[str] = set()
        while len(seen) < count:
            split = hold[len(seen) % len(hold)]
            for _ in range(200):
                one = example(split.intent, dice.choice(split.hold), dice, test=True)
                if one.request not in seen and not is_learnt(one.skeleton, seed):
                    break
            else:
                hold.remove(split)
                continue
            seen.add(one.request)
            found.append(one)
    return found


@cache
def earlier_skeletons() -> re.Pattern[str]:
    """Return an expression that matches each skeleton of all templates, learnt or held out; blanks taken out."""
    ways = [regex(template.pattern) for intent in intents() for template in intent.templates]
    return re.compile("|".join(f"(?:{way})" for way in ways))


def fresh(seed: int = SEED) -> list[Example]:
    """Return a second test: templates written after the training, what an earlier one also says left out."""
    dice = random.Random(f"{seed} fresh")
    found: list[Example] = []
    for intent in fresh_templates():
        for template in intent.templates:
            seen: set[str] = set()
            for _ in range(200):
                one = example(intent, template, dice, test=True)
                if one.request not in seen and not earlier_skeletons().fullmatch(one.skeleton.replace(" ", "")):
                    seen.add(one.request)
                    found.append(one)
                if len(seen) == (FRESH_COMMANDS if one.known else FRESH_UNKNOWN):
                    break
    return found


__all__ = ["Example", "Slot", "Split", "example", "fresh", "held_out", "is_learnt", "splits", "training"]
