"""json_repair: mends an answer that was to be JSON and is not quite (docs/plugins/json_repair.md).

Only what is certain is mended: what a reader would take the text for is what it becomes, or it stays as it is. What
always returns something guesses where a string ends or what a word was to be, and nobody can tell that it did.
"""

import re
from typing import Literal, NamedTuple

import msgspec
from ingled.hooks import Answer, Call, Hook, Verdict, changed, hookimpl, note
from msgspec import Struct

VERSION = "1.0"
HOOK = Hook(order=300, deadline_ms=2000, on_error="skip")

DEPTH = 200
"""Deepest nesting that is mended."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Which answers, and what may be done to them."""

    when: Literal["asked", "looks"] = "looks"
    """Answers to requests with a `response_format` for JSON; or also those that look as if they were to be JSON."""
    close: bool = True
    """Close what is open where the answer ended for its length. What was incomplete is left out."""


class Mended(NamedTuple):
    """What became of a text, and by which mends."""

    text: str
    mends: list[str]


@hookimpl
def ingled_answer(answer: Answer, call: Call, options: Options) -> Verdict | None:
    """Mend the answer; of one whose text has gone out already, say only what it is."""
    text = answer["text"]
    form = (answer["options"].get("response_format") or {}).get("type", "text")
    asked = form in ("json_object", "json_schema")
    if not asked and (options.when == "asked" or not looks(text)):
        return None
    if valid(text):
        return note(json="valid")
    mended = mend(text, options.close and answer["finish"] == "length")
    if mended is None:
        return note(json="broken")
    if call.stream:
        return note(json="broken", mendable=mended.mends)
    return changed(mended.text, json="mended", mends=mended.mends)


def valid(text: str) -> bool:
    """Tell whether a text is JSON."""
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


FENCE = re.compile(r"```[ \t]*(?:json[5c]?)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)


def looks(text: str) -> bool:
    """Tell whether a text looks as if it were to be JSON."""
    return FENCE.search(text) is not None or text.lstrip()[:1] in ("{", "[")


def mend(text: str, close: bool = False) -> Mended | None:
    """Return the text as JSON, or None where it is none, or where it is not certain which.

    With `close`, a text that ends too early ends behind the last thing that was complete.
    """
    mends: set[str] = set()
    fences = list(FENCE.finditer(text))
    if len(fences) > 1:
        return None
    if fences:
        text = fences[0][1]
        mends.add("text around it")
    start = re.search(r"[\[{]", text)
    if start is None:
        return None
    mender = Mender(text, start.start(), close)
    try:
        mender.value()
    except _End:
        mender.cut()
    except _Unsure:
        return None
    if text[: start.start()].strip() or text[mender.at :].strip():
        mends.add("text around it")
        if re.search(r"[\[{]", text[mender.at :]):  # another one: which is meant?
            return None
    found = "".join(mender.out)
    mends |= mender.mends
    return Mended(found, sorted(mends)) if mends and valid(found) else None


class _Unsure(Exception):
    """It is not certain what is meant."""


class _End(Exception):
    """The text has ended within a value."""


SPACE = re.compile(r"[ \t\r\n]+")
COMMENT = re.compile(r"(?://|#)[^\n]*|/\*.*?\*/", re.DOTALL)
NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>0|[1-9][0-9]*)?(?P<part>\.[0-9]*)?(?P<power>[eE][+-]?[0-9]+)?")
PART = re.compile(r"[0-9eE+.-]*\Z")
WORD = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
WORDS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}
PLAIN = {quote: re.compile(rf'[^{quote}"\\\x00-\x1f]+') for quote in "\"'"}
ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
CONTROL = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
CLOSES = {"{": "}", "[": "]"}


class Mender:
    """Reads one value and writes it as JSON; what needs no mending stays as it is, spaces included."""

    def __init__(self, text: str, at: int, close: bool) -> None:
        self.text, self.at, self.out = text, at, list[str]()
        self.mends: set[str] = set()
        self._close = close
        self._open: list[str] = []
        self._whole: tuple[int, list[str]] | None = None
        """How much of `out` is complete, and what closes it."""

    def cut(self) -> None:
        """End behind the last thing that was complete. Raises nothing: there is at least an empty object or list."""
        assert self._whole is not None, "the text has ended within a value"
        length, closes = self._whole
        self.out[length:] = reversed(closes)
        self.at = len(self.text)
        self.mends.add("end")

    def value(self) -> None:
        """Read a value. Raises _Unsure, or _End where the text may be cut."""
        sign = self._next()
        if sign in CLOSES:
            self._group(sign)
        elif sign in PLAIN:
            self._string(sign)
        elif sign in "+-." or sign.isdigit():
            self._number()
        else:
            word = self._match(WORD)
            if word not in WORDS:
                raise _Unsure
            self._say(word, WORDS[word], "words of Python")

    def _group(self, sign: str) -> None:
        """Read an object or a list."""
        if len(self._open) == DEPTH:
            raise _Unsure
        self.at += 1
        self.out.append(sign)
        end = CLOSES[sign]
        self._open.append(end)
        self._complete()
        comma: int | None = None
        while True:
            self._space()
            if self._next() == end:
                if comma is not None:
                    del self.out[comma]
                    self.mends.add("commas")
                break
            if self.text[self.at] == ",":  # two, or one before anything
                raise _Unsure
            if sign == "{":
                self._member()
            else:
                self.value()
            self._complete()
            self._space()
            if self._next() == ",":
                self.at += 1
                comma = len(self.out)
                self.out.append(",")
            elif self.text[self.at] == end:
                comma = None
            else:
                raise _Unsure
        self.at += 1
        self.out.append(end)
        self._open.pop()

    def _member(self) -> None:
        sign = self._next()
        if sign in PLAIN:
            self._string(sign)
        else:
            name = self._match(WORD)
            self._say(name, f'"{name}"', "quotes")
        self._space()
        if self._next() != ":":
            raise _Unsure
        self.at += 1
        self.out.append(":")
        self._space()
        self.value()

    def _string(self, quote: str) -> None:
        begin, self.at = len(self.out), self.at + 1
        self.out.append('"')
        if quote == "'":
            self.mends.add("quotes")
        while (sign := self._next()) != quote:
            if found := PLAIN[quote].match(self.text, self.at):
                self._say(found[0], found[0])
            elif sign == '"':
                self._say(sign, '\\"')
            elif sign != "\\":
                self._say(sign, CONTROL.get(sign, f"\\u{ord(sign):04x}"), "line breaks in strings")
            elif found := ESCAPE.match(self.text, self.at):
                self._say(found[0], found[0])
            elif len(self.text) - self.at < 6 and self._close:
                raise _End
            elif self.text.startswith("\\'", self.at):
                self._say("\\'", "'", "escapes")
            else:
                raise _Unsure
        self.at += 1
        self.out[begin:] = ["".join(self.out[begin:]) + '"']

    def _number(self) -> None:
        found = NUMBER.match(self.text, self.at)
        assert found is not None, "it matches nothing, too"
        whole, part, behind = found["whole"] or "", found["part"] or "", self.text[found.end() : found.end() + 1]
        if self._close and PART.match(self.text, self.at):
            raise _End  # more of it may have been to come
        if not (whole or part[1:]) or behind.isalnum() or behind in ("_", "."):
            raise _Unsure
        sign = "-" if found["sign"] == "-" else ""
        mended = sign + (whole or "0") + (f"{part}0" if part == "." else part) + (found["power"] or "")
        self._say(found[0], mended, "numbers")

    def _space(self) -> None:
        while self.at < len(self.text):
            if found := SPACE.match(self.text, self.at):
                self._say(found[0], found[0])
            elif found := COMMENT.match(self.text, self.at):
                self._say(found[0], "", "comments")
            else:
                return

    def _next(self) -> str:
        if self.at == len(self.text):
            raise _End if self._close else _Unsure
        return self.text[self.at]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise _Unsure
        if found.end() == len(self.text) and self._close:
            raise _End
        return found[0]

    def _say(self, read: str, said: str, mend: str = "") -> None:
        self.at += len(read)
        self.out.append(said)
        if mend and read != said:
            self.mends.add(mend)

    def _complete(self) -> None:
        self._whole = len(self.out), self._open.copy()
