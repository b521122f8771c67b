"""From what TOML has to what is typed, or to the error that names key, value and what is allowed."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from ingle.bytesize import parse
from ingle.wire.schema import Sampling
from msgspec import Struct

from ingled.config.tables import Model

S = TypeVar("S", bound=Struct)


class ConfigError(ValueError):
    """The configuration is wrong; the text names the file, the key and what is allowed."""


def table(value: object, at: str) -> dict[str, Any]:
    """Return the table that stands at a key. Raises ConfigError."""
    if not isinstance(value, dict):
        raise ConfigError(f"{at} is {value!r}: expected a table")
    return dict(value)


def known(table: Mapping[str, Any], allowed: tuple[str, ...], at: str) -> None:
    """See that a table has no other keys than these. Raises ConfigError."""
    for key in table:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            path = f"{at}.{key}" if at else key
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"{path}: unknown key{guess} (allowed: {', '.join(allowed)})")


def convert(table: dict[str, Any], kind: type[S], at: str, extra: tuple[str, ...] = ()) -> S:
    """Return a table as a `kind`; `extra`: keys that it may have had besides. Raises ConfigError."""
    known(table, kind.__struct_fields__ + extra, at)
    if kind is Model and isinstance(table.get("sampling"), dict):
        known(table["sampling"], Sampling.__struct_fields__, f"{at}.sampling")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        keys = path.rstrip("`").lstrip(".")
        value: Any = table
        for key in filter(None, keys.split(".")):
            name, _, index = key.partition("[")
            value = value.get(name) if isinstance(value, dict) else None
            if index.rstrip("]").isdigit() and isinstance(value, list):
                value = value[int(index.rstrip("]"))]
        shown = f" is {value!r}" if keys else ""
        path = f"{at}.{keys}" if keys else at
        raise ConfigError(f"{path}{shown}: {text[0].lower()}{text[1:]}{_choices(kind, keys)}") from error


def _choices(kind: type[Struct], key: str) -> str:
    """Return the allowed values of a key that is a choice, in words."""
    hint = get_type_hints(kind).get(key)
    choices: set[str] = set()
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Literal:
            choices.update(get_args(part))
    return f" (allowed: {', '.join(map(repr, sorted(choices)))})" if choices else ""


def size(value: int | str, at: str) -> int:
    """Return the bytes of a size such as "24GiB". Raises ConfigError."""
    try:
        bytes = parse(value)
    except ValueError as error:
        raise ConfigError(f"{at} is {value!r}: {error}") from error
    if bytes < 1 << 20:
        raise ConfigError(f"{at} is {value!r}: less than 1 MiB")
    return bytes
