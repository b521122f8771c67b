"""How a request says an argument, and how people write: politeness, capitals, typing errors. Pure.

A sentence is a list of pieces, each with a mark that says whether it is an argument: those are never touched.
"""

import random
from typing import Final

from bench.ember.slots import KINDS, ORDINALS, SMALL, SPELLED, Argument

Piece = tuple[str, bool]
"""A text, and whether it is an argument."""

UNITS: Final = {
    "k": ("k", " k", "K", " KB", "KB", " kB", " kilobytes", "kb", " kb"),
    "M": ("M", " M", " MB", "MB", " MB", " megabytes", "mb", " mb", " megs"),
    "G": ("G", " G", " GB", "GB", " GB", " gigabytes", "gb", " gb", " gigs"),
}
PERIODS: Final = {"1": ("day", "24 hours"), "7": ("week",), "14": ("two weeks",), "30": ("month",), "365": ("year",)}
ORDERS: Final = (
    "please ", "can you ", "could you ", "could you please ", "can you please ", "I want to ", "I need to ",
    "I'd like to ", "I would like to ", "how do I ", "how can I ", "help me ", "let's ", "what is the command to ",
    "pls ", "now ", "hey, ", "ember, ", "would you ", "will you ", "you should ", "I want you to ", "just ", "quickly ",
)  # fmt: skip
NOUNS: Final = ("show me ", "give me ", "I want ", "I need ", "list ", "I'd like ", "please show ", "can I have ",
                "can I see ", "let me see ", "get me ", "show ", "I want to see ", "I need to know ")  # fmt: skip
QUESTIONS: Final = ("hey, ", "so ", "tell me, ", "ember, ", "hm, ", "and ", "please tell me: ", "quick question: ")
ENDS: Final = (" please", " for me", " now", ", thanks", ", please", " thanks", " pls")


def say(name: str, argument: Argument, dice: random.Random, before: str) -> list[Piece]:
    """Return the pieces that say an argument in the place of the slot `name`."""
    value = argument.value
    if argument.special:
        return [(argument.special, False)]
    way = dice.random()
    match name:
        case "dir" | "dir!":
            return _folder(value, dice)
        case "file" | "file2" | "csv" if way < 0.12 and not before.endswith("file "):
            return [("the file " if way < 0.09 else "file ", False), (value, True)]
        case "size":
            return [(value[:-1], True), (dice.choice(UNITS[value[-1]]), False)]
        case "days":
            return _days(value, dice, before)
        case "n" | "col" if int(value) <= SMALL and way < 0.35:
            return [(SPELLED[int(value)], False)]
        case "nth":
            return [_ordinal(value, dice)]
        case "column":
            if way < 0.5:
                return [("column " if way < 0.4 else "column number ", False), (value, True)]
            return [("the ", False), _ordinal(value, dice), (" column", False)]
        case "kind":
            return _files(value, dice)
        case "word" | "word2" | "msg":
            quote = dice.choice(("", "", '"', "'", '"') if name != "msg" else ('"', '"', "'", ""))
            return [(quote + value + quote, True)]
        case "var":
            return [("$" + value if way < 0.15 else value, True)]
        case _:
            return [(value, True)]


def _folder(value: str, dice: random.Random) -> list[Piece]:
    way = dice.random()
    if way < 0.12:
        return [("the ", False), (value, True), (dice.choice((" folder", " directory")), False)]
    if way < 0.22:
        return [(dice.choice(("the folder ", "the directory ", "folder ", "directory ")), False), (value, True)]
    return [(value + "/" if way < 0.32 else value, True)]


def _files(extension: str, dice: random.Random) -> list[Piece]:
    names = KINDS.get(extension)
    if names and dice.random() < 0.5:
        return [(dice.choice(names), False)]
    way = dice.random()
    if way < 0.45:
        return [(extension.upper() if names and way < 0.1 else extension, True), (" files", False)]
    if way < 0.8:
        return [("." + extension, True), (" files", False)]
    if way < 0.9:
        return [("files ending in ", False), ("." + extension, True)]
    return [("*." + extension, True), (" files", False)]


def _days(value: str, dice: random.Random, before: str) -> list[Piece]:
    bare = before.endswith(("last ", "past "))
    if value in PERIODS and dice.random() < 0.6:
        name = dice.choice(PERIODS[value])
        return [(name if bare or name[0] in "2t" else dice.choice(("a ", "one ")) + name, False)]
    if value == "1":
        return [("day" if bare else dice.choice(("a day", "one day", "1 day")), False)]
    if int(value) <= SMALL and dice.random() < 0.4:
        return [(SPELLED[int(value)], False), (" days", False)]
    return [(value, True), (" days", False)]


def _ordinal(value: str, dice: random.Random) -> Piece:
    if int(value) <= SMALL and dice.random() < 0.6:
        return (ORDINALS[int(value) - 1], False)
    ending = "th" if value[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(value[-1], "th")
    return (value + ending, True)


def dress(pieces: list[Piece], kind: str, dice: random.Random) -> list[Piece]:
    """Add politeness, punctuation, capitals and typing errors as people do."""
    first = {"!": ORDERS, "~": NOUNS, "?": QUESTIONS}[kind]
    share = {"!": 0.3, "~": 0.6, "?": 0.12}[kind]
    asks = kind == "?"
    if dice.random() < share:
        begin = dice.choice(first)
        asks = asks or begin.startswith(("can", "could", "how", "what", "would", "will"))
        pieces = [(begin, False), *pieces]
    if not asks and dice.random() < 0.15:
        pieces = [*pieces, (dice.choice(ENDS), False)]
    way = dice.random()
    if asks:
        pieces = [*pieces, ("?" if way < 0.6 else " ?" if way < 0.63 else "", False)]
    else:
        pieces = [*pieces, ("." if way < 0.2 else "!" if way < 0.24 else "", False)]
    if dice.random() < 0.1:
        pieces = [_mistype(piece, dice) for piece in pieces]
    way = dice.random()
    if way < 0.35 and not pieces[0][1]:
        pieces[0] = (pieces[0][0][:1].upper() + pieces[0][0][1:], False)
    return pieces


def _mistype(piece: Piece, dice: random.Random) -> Piece:
    text, argument = piece
    if argument or len(text) < 6 or dice.random() < 0.5:
        return piece
    at = dice.randrange(1, len(text) - 2)
    if not text[at - 1 : at + 2].isalpha():
        return piece
    way = dice.random()
    if way < 0.4:
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    elif way < 0.7:
        text = text[:at] + text[at + 1 :]
    elif way < 0.85:
        text = text[:at] + text[at] + text[at:]
    else:
        text = text[:at] + dice.choice("abcdefghijklmnopqrstuvwxyz") + text[at + 1 :]
    return (text, argument)
