"""What a verb looks like, and how its command line is read. argparse would cost 7 ms at every start, and typing
10."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Usage(Exception):
    """The command line is wrong; `hint` says what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Option:
    """An option of a verb."""

    def __init__(
        self, names: tuple[str, ...], help: str, value: str = "", kind: Callable[[str], Any] = str, many: bool = False
    ) -> None:
        self.names = names
        """Such as `-m` and `--model`; the last one, without its dashes, is the key under which the value is
        found.
        """
        self.help = help
        self.value = value
        """What the manual calls its value; an option without is a switch."""
        self.kind = kind
        self.many = many

    @property
    def key(self) -> str:
        """The name of its value."""
        return self.names[-1].lstrip("-")


class Verb:
    """A verb of the command, with its manual page."""

    def __init__(
        self,
        name: str,
        run: Callable[[Given], int],
        description: str,
        arguments: str = "",
        least: int = 0,
        most: int | None = 0,
        options: tuple[Option, ...] = (),
        examples: tuple[tuple[str, str], ...] = (),
        exits: tuple[tuple[int, str], ...] = (),
        alone: bool = False,
    ) -> None:
        self.name, self.run, self.description = name, run, description
        self.arguments = arguments
        """As the synopsis shows them, such as `PROMPT...`."""
        self.least, self.most = least, most
        """Number of arguments; None: any."""
        self.own = options
        """Options that the synopsis shows."""
        self.options = (*options, HELP) if alone else (*options, SOCKET, HELP)
        self.examples = examples
        """Commands and what they do."""
        self.exits = exits
        """Exit statuses that mean something particular here, beside those of every verb."""
        self.alone = alone
        """It needs no daemon."""


JSON = Option(("--json",), "Print JSON with the names that docs/protocol.md gives, for programs.")
SOCKET = Option(("--socket",), "The daemon's socket; without it see `ingle help environment`.", "PATH")
HELP = Option(("-h", "--help"), "Print this page.")


class Given:
    """What a command line says."""

    def __init__(self, words: list[str], values: dict[str, Any]) -> None:
        self.words = words
        self._values = values

    def value(self, key: str) -> Any:
        """Return an option's value, or None."""
        return self._values.get(key)

    def all(self, key: str) -> list[Any]:
        """Return the values of an option that may be repeated."""
        return list(self._values.get(key, ()))

    def switch(self, key: str) -> bool:
        """Return whether a switch was given."""
        return key in self._values


def parse(verb: Verb, argv: list[str]) -> Given:
    """Read a verb's command line. Options may stand anywhere before `--`. Raises Usage."""
    known = {name: option for option in verb.options for name in option.names}
    words: list[str] = []
    values: dict[str, Any] = {}
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--":
            words += reversed(rest)
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, glued = _split(word, known)
        option = known.get(name)
        if option is None:
            raise Usage(f"{verb.name}: unknown option {name}", _hint(verb))
        if not option.value:
            if glued is not None and word.startswith("--"):
                raise Usage(f"{verb.name}: {name} takes no value", _see(verb))
            if glued:  # bundled short switches: -vh
                rest.append("-" + glued)
            values[option.key] = True
            continue
        if glued is None:
            if not rest:
                raise Usage(f"{verb.name}: {name} needs a value: {name} {option.value}", _see(verb))
            glued = rest.pop()
        try:
            value = _value(option.kind, glued)
        except ValueError as error:
            raise Usage(f"{verb.name}: {name} {glued}: {error}", _see(verb)) from None
        if option.many:
            values.setdefault(option.key, []).append(value)
        else:
            values[option.key] = value
    if "help" not in values:
        _count(verb, words)
    return Given(words, values)


def _value(kind: Callable[[str], Any], text: str) -> Any:
    """Return what a text says. Raises ValueError, which says why not."""
    if kind not in (int, float):
        return kind(text)
    try:
        value = kind(text)
    except ValueError:
        raise ValueError("not a number") from None
    from ingle.wire.limits import INTEGERS  # most command lines have no number

    if kind is int and value not in INTEGERS:
        raise ValueError("a number of more than 64 bits")
    return value


def _split(word: str, known: dict[str, Option]) -> tuple[str, str | None]:
    """Return an option's name and the value or switches that are glued to it."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return (word, None) if word in known or len(word) == 2 else (word[:2], word[2:])


def _count(verb: Verb, words: list[str]) -> None:
    if len(words) < verb.least:
        raise Usage(f"{verb.name}: {verb.arguments} is missing", _see(verb))
    if verb.most is not None and len(words) > verb.most:
        raise Usage(f"{verb.name}: too many arguments: {words[verb.most]!r}", _see(verb))


def _hint(verb: Verb) -> str:
    more = "; words that begin with - go behind `--`" if verb.most is None else ""
    return f"{_see(verb)}{more}"


def _see(verb: Verb) -> str:
    return f"see `ingle {verb.name} --help`"
