"""How requests are written down, and how a written line becomes many requests. Pure; randomness comes in.

A file in `templates/` is a list of intents. `[name]` begins one, `[name run]` one whose command can be tried in a
sandbox; `$ ...` is the command, `= ...` an answer that is no command. Every other line is a template:

    (a|b|) alternatives, one may be empty     <name> a phrase of macros.txt     {slot} an argument
    ?...   a question       ~...   a noun phrase       anything else: an order
"""

import random
import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "templates"
FRESH: Final = Path(__file__).parent / "fresh.txt"
TOPICS: Final = ("files", "change", "text", "archive", "system", "git", "ingle", "chat", "unknown")
DOES_NOT_KNOW: Final = "I do not know that. I only turn short requests into shell commands."


@dataclass(frozen=True)
class Slot:
    """A place for an argument; `name` as written, with its variant."""

    name: str


@dataclass(frozen=True)
class Choice:
    """One of several ways to go on."""

    ways: tuple["Pattern", ...]


Pattern = tuple["str | Slot | Choice", ...]


@dataclass(frozen=True)
class Template:
    """One line: what sort of sentence it is, and its pattern."""

    kind: str
    pattern: Pattern
    text: str


@dataclass
class Intent:
    """What can be asked: its answer, and the templates that ask it."""

    name: str
    topic: str
    runs: bool
    command: str | None = None
    reply: Pattern | None = None
    templates: list[Template] = field(default_factory=list)


def parse(text: str, macros: dict[str, str] | None = None) -> Pattern:
    """Return the pattern that a line writes down."""
    text = re.sub(r"<(\w+)>", lambda found: f"({(macros or {})[found[1]]})", text)
    pattern, rest = _sequence(text)
    if rest:
        raise ValueError(f"template {text!r}: '{rest}' is left over")
    return pattern


def _sequence(text: str) -> tuple[Pattern, str]:
    items: list[str | Slot | Choice] = []
    while text and text[0] not in "|)":
        if text[0] == "(":
            ways = []
            while text[0] in "(|":
                way, text = _sequence(text[1:])
                ways.append(way)
                if not text:
                    raise ValueError("a template lacks ')'")
            items.append(Choice(tuple(ways)))
            text = text[1:]
        elif text[0] == "{":
            name, _, text = text[1:].partition("}")
            items.append(Slot(name))
        else:
            literal = re.match(r"[^(){}|]+", text)
            assert literal, text
            items.append(literal[0])
            text = text[literal.end() :]
    return tuple(items), text


def expand(pattern: Pattern, dice: random.Random) -> list["str | Slot"]:
    """Choose one way through a pattern."""
    found: list[str | Slot] = []
    for item in pattern:
        if isinstance(item, Choice):
            found += expand(dice.choice(item.ways), dice)
        else:
            found.append(item)
    return found


def skeleton(items: list["str | Slot"]) -> str:
    """Return the sentence with its arguments taken out, as templates are compared."""
    text = "".join(item if isinstance(item, str) else f"{{{item.name.strip('!_')}}}" for item in items)
    return tidy(text)


def tidy(text: str) -> str:
    """Return the text with the gaps closed that empty alternatives leave."""
    return re.sub(r" +(?=[,?.!]( |$))|^ +| +$", "", re.sub(r"  +", " ", text))


def regex(pattern: Pattern) -> str:
    """Return a regular expression for all skeletons of a pattern; compare with the blanks taken out."""
    parts = []
    for item in pattern:
        match item:
            case str():
                parts.append(re.escape(item.replace(" ", "")))
            case Slot(name):
                parts.append(re.escape(f"{{{name.strip('!_')}}}"))
            case Choice(ways):
                parts.append(f"(?:{'|'.join(map(regex, ways))})")
    return "".join(parts)


@cache
def intents() -> tuple[Intent, ...]:
    """Return all intents, in the order of the files."""
    return tuple(one for topic in TOPICS for one in read((FOLDER / f"{topic}.txt").read_text(), topic))


@cache
def fresh_templates() -> tuple[Intent, ...]:
    """Return intents with the templates that were written after the training, and no others."""
    taught = {intent.name: intent for intent in intents()}
    found = []
    for fresh in read(FRESH.read_text(), "unknown"):
        intent = taught.get(fresh.name, fresh)
        found.append(replace(intent, templates=fresh.templates))
    return tuple(found)


def read(text: str, topic: str) -> list[Intent]:
    """Return the intents that a file writes down."""
    lines = [line for line in (FOLDER / "macros.txt").read_text().splitlines() if "=" in line]
    macros = {name.strip(): ways.strip() for name, _, ways in (line.partition("=") for line in lines)}
    found: list[Intent] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            name, _, flag = line.strip("[]").partition(" ")
            found.append(Intent(name, topic, flag == "run"))
            if topic == "unknown":
                found[-1].reply = (DOES_NOT_KNOW,)
        elif line.startswith("$ "):
            found[-1].command = line[2:]
        elif line.startswith("= "):
            found[-1].reply = parse(line[2:])
        else:
            kind = line[0] if line[0] in "?~" else "!"
            body = line.lstrip("?~")
            found[-1].templates.append(Template(kind, parse(body, macros), line))
    return found


@cache
def template_words() -> tuple[str, ...]:
    """Return all words that stand in templates, commands and answers."""
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.txt"))]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith(("#", "["))]
    plain = [re.sub(r"\{\w+[!_]?\}|<\w+>", "", line.lower()) for line in lines]
    return tuple(sorted({word for line in plain for word in re.findall(r"[a-z]{2,}", line)}))
