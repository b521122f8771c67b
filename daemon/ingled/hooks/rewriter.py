"""Pattern-based rewriting of a stream: the same output however the text is cut. Pure.

What is guaranteed: `feed(a) + feed(b) + ... + flush()` is `re.sub(pattern, replace, a + b + ...)` for every way to cut
the text, lookaround and word boundaries at the cuts included. To that end a position is decided only when the text
behind it reaches as far as the pattern can look from there, which is known for every pattern that a Rewriter takes; and
as many characters as it can look back to are kept. Where the first character of a match can be told from the pattern,
text that cannot begin a match goes out at once: a pattern that begins with `[` delays only what follows a bracket.

Refused with ValueError, because a stream cannot keep the promise: unbounded repeats (write `{1,64}` instead of `+`),
what can look further than `longest` characters, anchors (a piece of a stream has no beginning and no end), and patterns
that match the empty text.

The promise ends where `flush` is called before the end, because text was held for too long: what is held then is
decided as if the text ended there.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from re import _parser as parser  # type: ignore[attr-defined]  # the only place that knows how far a pattern can look
from typing import Any

Replace = str | Callable[[str], str]
"""A template as for `re.sub` (`\\1`, `\\g<name>`), or a function from the matched text to its replacement."""


class Rewriter:
    """A handler that replaces each match of a regular expression."""

    def __init__(self, pattern: str | re.Pattern[str], replace: Replace, longest: int = 256) -> None:
        self._pattern = re.compile(pattern)
        self._replace = replace
        self._ahead, self._back = reach(self._pattern, longest)
        self._first = first_character(self._pattern)
        self._text = ""
        self._at = 0  # what stands before it in _text is out and only kept for lookbehind

    @property
    def held(self) -> int:
        """Return how many characters of the input are in no output yet."""
        return len(self._text) - self._at

    def feed(self, text: str) -> str:
        """Return what can no longer change, now that this text has come."""
        self._text += text
        # An attempt at p looks at less than p + ahead: this is the first position that is not decided.
        undecided = len(self._text) - self._ahead + 1
        return self._decide(max(undecided, self._at))

    def flush(self) -> str:
        """Return the rest, as if the text ended here."""
        return self._decide(len(self._text))

    def _decide(self, end: int) -> str:
        """Rewrite up to `end`, and further where no match can begin."""
        text, at, out = self._text, self._at, []
        for match in self._pattern.finditer(text, at):
            if match.start() >= end:
                break
            out += [text[at : match.start()], self._replacement(match)]
            at = match.end()
        end = max(end, at)
        begin = self._first.search(text, end)
        end = begin.start() if begin else len(text)
        out.append(text[at:end])
        keep = max(0, end - self._back)
        self._text, self._at = text[keep:], end - keep
        return "".join(out)

    def _replacement(self, match: re.Match[str]) -> str:
        if isinstance(self._replace, str):
            return match.expand(self._replace)
        return self._replace(match.group())  # not the match: its positions depend on the cuts


@lru_cache(maxsize=128)  # a handler is made for every answer
def reach(pattern: re.Pattern[str], longest: int) -> tuple[int, int]:
    """Return how many characters an attempt to match can look at: from its position on, and before it."""
    parsed = parser.parse(pattern.pattern, pattern.flags)
    shortest, ahead = parsed.getwidth()
    if shortest == 0:
        raise ValueError(f"{pattern.pattern!r} matches the empty text")
    back = 0
    for op, value in walk(parsed):
        if op is parser.AT:
            if value not in (parser.AT_BOUNDARY, parser.AT_NON_BOUNDARY):
                raise ValueError(f"{pattern.pattern!r} has an anchor: in a stream only \\b and \\B have a meaning")
            ahead, back = ahead + 1, back + 1
        elif op in (parser.ASSERT, parser.ASSERT_NOT):
            direction, inner = value
            width = inner.getwidth()[1]
            ahead, back = (ahead + width, back) if direction > 0 else (ahead, back + width)
    if max(ahead, back) > longest:
        raise ValueError(f"{pattern.pattern!r} can look at more than {longest} characters: bound its repeats")
    return ahead, back


def walk(parsed: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield every operation of a parsed pattern, the nested ones too."""
    for op, value in parsed:
        yield op, value
        for inner in nested(value):
            yield from walk(inner)


def nested(value: Any) -> Iterator[Any]:
    """Yield the subpatterns within an operation's value."""
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from nested(item)


@lru_cache(maxsize=128)
def first_character(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """Return a pattern that matches at least every character with which a match can begin."""
    source = beginning(parser.parse(pattern.pattern, pattern.flags))
    return re.compile(source or r"(?s:.)", pattern.flags & (re.I | re.A | re.U))


def beginning(parsed: Any) -> str:
    """Return the source of a pattern for the first character, or an empty string where it cannot be told."""
    for op, value in parsed:
        if op is parser.LITERAL:
            return re.escape(chr(value))
        if op is parser.BRANCH:
            sources = [beginning(branch) for branch in value[1]]
            return "|".join(sources) if all(sources) else ""
        if op is parser.SUBPATTERN:
            _, on, off, inner = value
            return beginning(inner) if inner.getwidth()[0] and not (on or off) else ""
        if op in (parser.MAX_REPEAT, parser.MIN_REPEAT):
            least, _, inner = value
            return beginning(inner) if least and inner.getwidth()[0] else ""
        if op is parser.IN:
            return one_of(value)
        if op not in (parser.AT, parser.ASSERT, parser.ASSERT_NOT):
            return ""
    return ""


def one_of(items: Iterable[tuple[Any, Any]]) -> str:
    """Return the source of a set that has no categories, or an empty string."""
    parts = []
    for op, value in items:
        if op is parser.LITERAL:
            parts.append(re.escape(chr(value)))
        elif op is parser.RANGE:
            parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        elif op is parser.NEGATE:
            parts.append("^")
        else:
            return ""
    return f"[{''.join(parts)}]"
