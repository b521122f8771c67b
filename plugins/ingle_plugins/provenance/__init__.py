"""Marks what a model has written: a record that programs can check, signed if there is a key, and a line for people.

docs/plugins/provenance.md says what is in a record and what it proves. `ingle verify` checks it.
"""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from ingle.wire.hook_schema import Hold
from ingle.wire.provenance import AI, FORM, between, digest, plain_json, with_line
from ingle.wire.provenance import VERSION as FORMAT
from ingled.hooks import Answer, Call, Hook, Verdict, changed, hookimpl, note
from msgspec import Struct

from ingle_plugins.provenance.keys import WrongKey, load, sign

VERSION = "1.0"
HOOK = Hook(order=950, deadline_ms=1000, on_error="skip", hold=Hold(chars=0, ms=1000))


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written."""

    key: str = ""
    """File with the private key that signs; without one, records are not signed."""
    line: str = ""
    """A visible line behind each answer; `{model}` and `{date}` are filled in. Empty: none."""
    request: bool = True
    """Whether the record has the request's id."""


def check(options: Options) -> None:
    """Raise ValueError where nothing could be signed or the line cannot be made."""
    if options.key:
        try:
            load(options.key)
        except WrongKey as error:
            raise ValueError(f"key: {error}") from None
    try:
        line = _line(options, "model")
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(f"line: {options.line!r} may have {{model}} and {{date}} in it, and no other braces") from None
    if "\n" in line:
        raise ValueError("line: is more than one line")


class Line:
    """Writes the visible line behind a streamed answer. It holds nothing back."""

    held = 0

    def __init__(self, line: str) -> None:
        self._line = line
        self._end = ""
        self._done = False

    def feed(self, text: str) -> str:
        """Let the text pass, and remember how it ends."""
        if text:
            self._end = (self._end + text)[-3:]
        return text

    def flush(self) -> str:
        """Return the line, at the end of an answer that has any text."""
        if self._done or not self._end:
            return ""
        self._done = True
        return between(self._end) + self._line


@hookimpl
def ingled_chunk(call: Call, options: Options) -> Line | None:
    """Write the line behind a streamed answer."""
    if not options.line or not call.stream:
        return None
    line = call.state.decode() if call.state else _line(options, call.model)  # a host that died had begun with that
    call.state = line.encode()  # the record is made later, perhaps on another day
    return Line(line)


@hookimpl
def ingled_answer(answer: Answer, call: Call, options: Options) -> Verdict:
    """Make the record of an answer as it is delivered, with the line."""
    text, model = answer.get("text", ""), answer.get("model", {})
    line = call.state.decode() if call.state else ""
    if call.stream:
        return note(provenance=_record(text, line if text.rstrip().endswith(line) else "", answer, call, options))
    line = _line(options, str(model.get("name") or call.model))
    marked = with_line(text, line)
    record = _record(marked, line if marked != text else "", answer, call, options)
    return changed(marked, provenance=record) if marked != text else note(provenance=record)


def _line(options: Options, model: str) -> str:
    return options.line.format(model=model, date=datetime.now(UTC).date().isoformat())


def _short(value: Any) -> Any:
    """Return an option, or the digest of one that is too long for a note: a schema, say."""
    text = plain_json(value)
    return value if len(text) <= 256 else {"sha256": sha256(text.encode()).hexdigest()}


def _record(text: str, line: str, answer: Answer, call: Call, options: Options) -> dict[str, Any]:
    """Return the record of a text, signed where there is a key."""
    record: dict[str, Any] = {
        "v": FORMAT,
        "source": AI,
        "text": {"sha256": digest(text), "form": FORM},
        "model": {key: value for key, value in answer.get("model", {}).items() if value is not None},
        "options": {key: _short(value) for key, value in answer.get("options", {}).items() if value is not None},
        "finish": answer.get("finish", ""),
        "hooks": [
            {key: hook[key] for key in ("name", "version", "point", "verdict") if key in hook}
            for hook in answer.get("hooks", [])
        ],
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if options.request and call.id:
        record["request"] = call.id
    if line:
        record["line"] = line
    if options.key:
        return sign(record, load(options.key))
    plain_json(record)  # raises where somebody could never sign or check it
    return record
