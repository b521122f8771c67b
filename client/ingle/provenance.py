"""Checks a text against its provenance record: is it unchanged, who signed, which model wrote it."""

import base64
import json
from typing import Any, Literal, NamedTuple

from ingle.wire.provenance import FORM, VERSION, digest, signed_bytes, with_line

Signature = Literal["good", "bad", "none", "other_key"]


class WrongRecord(ValueError):
    """It is no record that this version can check."""


class CannotCheck(Exception):
    """The record is signed, and the library that checks signatures is not installed."""


class Outcome(NamedTuple):
    """What a check has found."""

    unchanged: bool
    signature: Signature
    """`good`: made with `key`; `other_key`: a good one, but not of the key that was asked for."""
    key: str | None
    """The public key that signed, as `ed25519:…`."""
    line: Literal["none", "there", "missing"]
    """The visible line: a text without it is unchanged too."""
    record: dict[str, Any]

    @property
    def good(self) -> bool:
        """Return whether nothing speaks against the text."""
        return self.unchanged and self.signature in ("good", "none")


def verify(text: str, record: dict[str, Any], key: str | None = None) -> Outcome:
    """Check a text against its record, and with `key` (`ed25519:…`) that this key signed it.

    Without a key, a good signature says that the record is as its signer made it, not who the signer is.
    Raises WrongRecord and CannotCheck.
    """
    said = record.get("text")
    if record.get("v") != VERSION or not isinstance(said, dict) or said.get("form") != FORM:
        raise WrongRecord(f"not a provenance record of version {VERSION} over a text in the form {FORM}")
    wanted, line = said.get("sha256"), record.get("line") or ""
    unchanged, shown = digest(text) == wanted, "there" if line else "none"
    if not unchanged and line and digest(with_line(text, str(line))) == wanted:
        unchanged, shown = True, "missing"
    return Outcome(unchanged, _signature(record, key), record.get("key"), shown, record)  # type: ignore[arg-type]


def _signature(record: dict[str, Any], key: str | None) -> Signature:
    if "signature" not in record:
        return "none" if key is None else "other_key"
    by = record.get("key")
    try:
        kind, _, public = str(by).partition(":")
        data, signature = unpacked(public), unpacked(str(record["signature"]))
        payload = signed_bytes(record)
    except ValueError:
        return "bad"
    if kind != "ed25519" or len(data) != 32:
        return "bad"
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise CannotCheck("the record is signed; checking that needs the package cryptography") from error
    try:
        Ed25519PublicKey.from_public_bytes(data).verify(signature, payload)
    except InvalidSignature:
        return "bad"
    return "good" if key in (None, by) else "other_key"


def packed(data: bytes) -> str:
    """Return bytes as text for a record."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpacked(text: str) -> bytes:
    """Return the bytes of such a text. Raises ValueError."""
    if set(text) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_key(data: bytes) -> str:
    """Return the key in a file: `ed25519:…`, or PEM. Raises WrongRecord and CannotCheck."""
    text = data.decode(errors="replace").strip()
    if text.startswith("ed25519:"):
        return text.split()[0]
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise CannotCheck("reading a PEM file needs the package cryptography") from error
    try:
        key = load_pem_public_key(data)
    except ValueError:
        raise WrongRecord("neither `ed25519:…` nor a public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise WrongRecord("not a key for Ed25519")
    return f"ed25519:{packed(key.public_bytes_raw())}"


def read(data: str) -> tuple[str | None, dict[str, Any] | None]:
    """Return the text of an answer and its record from what `ingle ask --json` prints, or from a record alone.

    It may be one object or a stream of lines; the last record counts.
    """
    text: str | None = None
    record: dict[str, Any] | None = None
    for value in _values(data):
        if not isinstance(value, dict):
            continue
        record = _record(value) or record
        whole = value.get("result") if isinstance(value.get("result"), dict) else value
        if isinstance(said := value.get("x"), str):
            text = (text or "") + said
        elif isinstance(whole, dict) and isinstance(said := whole.get("text"), str):
            text = said
    return text, record


def _values(data: str) -> list[Any]:
    try:
        return [json.loads(data)]
    except (ValueError, RecursionError):
        pass
    values = []
    for line in data.splitlines():
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            return []
    return values


def _record(value: Any, depth: int = 8) -> dict[str, Any] | None:
    """Return the record inside of a value: it is where a `v`, a `text` with a `sha256`, and a `source` are."""
    if isinstance(value, dict):
        said = value.get("text")
        if "v" in value and isinstance(said, dict) and "sha256" in said:
            return value
        value = list(value.values())
    if not isinstance(value, list) or not depth:
        return None
    return next((found for item in reversed(value) if (found := _record(item, depth - 1))), None)
