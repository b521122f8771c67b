"""`ingle verify`: is this text as a model wrote it, and which model was it?"""

import sys
from typing import Any

from ingle.cli.grammar import JSON, Given, Option, Usage, Verb
from ingle.cli.output import print_json, put, text_of, visible
from ingle.provenance import CannotCheck, Outcome, WrongRecord, public_key, read, verify

LARGEST = 32 << 20
"""Bytes that are read of a file: eight messages, as JSON may need so many for one."""


def run(given: Given) -> int:
    """Check, and say what was found."""
    name = given.words[0]
    try:
        data = _contents(name)
        said, record = read(data)
        if (file := given.value("record")) is not None:
            said, (_, record) = data, read(_contents(file))
        if record is None:
            raise Usage(
                f"{file or name}: no provenance record is in it",
                "give what `ingle ask --json` printed, with --record FILE or as the file itself",
            )
        if said is None:
            raise Usage(f"{name}: only the record is in it, not the text", "ingle verify TEXT --record FILE")
        key = public_key(_contents(given.value("key")).encode()) if given.value("key") is not None else None
        outcome = verify(said, record, key)
    except WrongRecord as error:
        raise Usage(f"verify: {error}", "see `ingle verify --help`") from error
    except CannotCheck as error:
        raise Usage(f"verify: {error}", "pip install cryptography") from error
    if given.switch("json"):
        print_json(_plain(outcome))
    else:
        put("".join(f"{visible(line)}\n" for line in _lines(outcome)))
    return 0 if outcome.good else 1


def _contents(name: str) -> str:
    if name == "-" and sys.stdin is None:
        raise Usage("verify: standard input is closed", "name a file")
    try:
        with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
            data = file.read(LARGEST + 1)
    except ValueError as error:  # a zero byte in the name
        raise OSError(None, str(error), name) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
    if len(data) > LARGEST:
        raise Usage(f"{name}: has more than {LARGEST} bytes", "no answer is as long")
    return data.decode(errors="replace")


def _plain(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    told = {key: record.get(key) for key in ("model", "time", "options", "hooks", "request")}
    found = {"unchanged": outcome.unchanged, "signature": outcome.signature, "key": outcome.key, "line": outcome.line}
    return {"good": outcome.good, **found, **told}


def _lines(outcome: Outcome) -> list[str]:
    record = outcome.record
    model = record.get("model")
    model = model if isinstance(model, dict) else {}
    about = [f"{key} {model[key]}" for key in ("revision", "digest", "license") if model.get(key)]
    name = text_of(model.get("name")) + (f" ({', '.join(about)})" if about else "")
    lines = [
        "unchanged" if outcome.unchanged else "CHANGED: this is not the text of the record",
        f"model      {name}",
        f"time       {text_of(record.get('time'))}",
        f"signature  {_SIGNATURES[outcome.signature].format(key=outcome.key)}",
    ]
    if outcome.line == "missing":
        lines.append(f"note       the line that marks it is missing: {record.get('line')}")
    return lines


_SIGNATURES = {
    "good": "good, by {key}",
    "bad": "WRONG: the record was changed, or somebody else made it",
    "none": "none: anybody can have written this record",
    "other_key": "NOT BY THE GIVEN KEY, but by {key}",
}

VERB = Verb(
    "verify",
    run,
    """
    Compares the text in FILE (`-` is standard input) with the record that the plugin `provenance` made of it.
    The record stands in what `ingle ask --json` printed; without --record, FILE itself is such output and has
    text and record. Blanks at ends of lines, empty lines at the beginning and the end, and the way in which
    accents are encoded do not matter.

    A good signature says that the record is as the daemon with this key made it. Whose key it is, only --key
    can say. Needs the package `cryptography` for records that are signed, and no daemon.
    """,
    "FILE",
    least=1,
    most=1,
    options=(
        Option(("--record",), "Where the record is: output of `ingle ask --json`, or the record alone.", "FILE"),
        Option(("--key",), "The public key that must have signed: PEM, or a line `ed25519:...`.", "FILE"),
        JSON,
    ),
    examples=(
        ("ingle ask --json --no-stream hi >a.json; ingle verify a.json", "Checks what was just said."),
        ("ingle verify letter.txt --record a.json --key ingle.pub", "Who wrote this letter?"),
    ),
    exits=(
        (0, "The text is unchanged, and the signature is good, or there is none and none was asked for."),
        (1, "The text was changed, the signature is wrong, or the given key did not sign."),
    ),
    alone=True,
)
