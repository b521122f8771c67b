"""What a provenance record says, and over which bytes it speaks: pure, and the same for who writes and who checks.

A record is a map of plain values. It covers a text in one form: NFC, lines that end in LF, no blanks at ends of lines,
no empty lines before and behind. So a copy through a mail program, an editor or a terminal is still the same text, and
another word is not.
"""

import hashlib
import unicodedata
from typing import Any

VERSION = 1
FORM = "nfc-lf-trim"
"""Name of the form; another one would have another name."""

AI = "https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for what a trained model has made; programs that look for AI-made content know it."""

_DOMAIN = b"ingle-provenance-1\0"
"""Leads what is signed, so that a signature of this key for something else is none of a record."""


def canonical(text: str) -> str:
    """Return a text in the form that records cover."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip(" \t") for line in text.split("\n")).strip("\n")


def digest(text: str) -> str:
    """Return the SHA-256 of a text in that form."""
    return hashlib.sha256(canonical(text).encode(errors="surrogatepass")).hexdigest()


def with_line(text: str, line: str) -> str:
    """Return a text with a visible line behind it."""
    return text + between(text) + line if line and text.strip() else text


def between(text: str) -> str:
    """Return what stands between a text and its visible line, so that an empty line does."""
    return "\n" * max(0, 2 - (len(text) - len(text.rstrip("\n"))))


def signed_bytes(record: dict[str, Any]) -> bytes:
    """Return what is signed of a record: all of it but the signature. Raises ValueError where it is no plain value."""
    return _DOMAIN + plain_json({key: value for key, value in record.items() if key != "signature"}).encode()


def plain_json(value: Any, depth: int = 32) -> str:
    """Return the one JSON text of a value, as RFC 8785 has it, so that every language can sign and check.

    A number that is whole is written so, whatever its type was: tools that rewrite JSON turn 1.0 into 1.
    """
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return _text(value)
        case int() if abs(value) < 1 << 53:
            return str(value)
        case float() if value - value == 0:  # neither infinite nor NaN
            return _number(value)
        case list() | tuple() if depth:
            return f"[{','.join(plain_json(item, depth - 1) for item in value)}]"
        case dict() if depth and all(isinstance(key, str) for key in value):
            items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))
            return "{" + ",".join(f"{_text(key)}:{plain_json(item, depth - 1)}" for key, item in items) + "}"
        case _:
            raise ValueError(f"a record cannot hold {type(value).__name__} {value!r:.40}")


def _text(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


def _number(number: float) -> str:
    """Write a float as ECMAScript does: the shortest digits, and an exponent below 1e-6 and from 1e21 on."""
    if number == int(number) and abs(number) < 1 << 53:
        return str(int(number))
    mantissa, _, exponent = repr(abs(number)).partition("e")
    if not exponent:
        return ("-" if number < 0 else "") + mantissa.removesuffix(".0")
    whole, _, part = mantissa.partition(".")
    digits, power = whole + part, int(exponent)
    if 0 <= power < 21:
        text = digits + "0" * (power + 1 - len(digits))
    elif -7 < power < 0:
        text = "0." + "0" * (-power - 1) + digits
    else:
        text = f"{mantissa}e{'+' if power > 0 else '-'}{abs(power)}"
    return ("-" if number < 0 else "") + text
