"""A plugin's options: the table of the configuration, as the type that the plugin declares."""

import re
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import msgspec

from ingled.hooks.blame import Unfit, at_load, line_of, one_line


def read(name: str, module: ModuleType, table: dict[str, Any], home: str) -> Any:
    """Return the options as the plugin's `Options`, None where it has none. Raises Unfit, with the path of the key."""
    at = f"plugins.{name}.options"
    kind = vars(module).get("Options")
    if kind is None:
        if table:
            raise Unfit(f"{at}.{next(iter(table))}: plugin '{name}' has no options")
        return None
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise Unfit(f"{line_of(module, 'Options')}: Options is no msgspec.Struct")
    _known(kind, table, at)
    try:
        options = msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise Unfit(one_line(explained(error, table, at))) from error
    except Exception as error:  # raised in __post_init__, or by an annotation that cannot be resolved
        raise Unfit(at_load(error, home)) from error
    _check(module, options, kind, at, home)
    return options


def explained(error: msgspec.ValidationError, table: dict[str, Any], at: str) -> str:
    """Return what is wrong with a table: the path of the key, its value, and the rule."""
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    text = text[0].lower() + text[1:]
    missing = re.search("missing required field `(.*)`", text)
    if missing is not None:
        return f"{'.'.join(filter(None, (at, path, missing[1])))} is missing"
    value: Any = table
    for key in filter(None, re.split(r"[.\[\]]", path)):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (LookupError, ValueError, TypeError):
            return f"{at}.{path}: {text}"
    return f"{at}.{path} is {value!r}: {text}" if path else f"{at}: {text}"


def _known(kind: type[msgspec.Struct], table: dict[str, Any], at: str) -> None:
    """Raise Unfit for a key that the type has not: by itself msgspec ignores them."""
    allowed = kind.__struct_encode_fields__
    for key in table:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise Unfit(f"{at}.{key}: unknown key{guess} (allowed: {', '.join(allowed)})")


def _check(module: ModuleType, options: Any, kind: type[msgspec.Struct], at: str, home: str) -> None:
    """Let the plugin's function `check(options)`, if it has one, look at options that are well typed."""
    check = vars(module).get("check")
    code = getattr(check, "__code__", None)
    if not callable(check) or code is None or code.co_varnames[: code.co_argcount] != ("options",):
        return
    try:
        check(options)
    except ValueError as error:
        text = str(error)
        own = re.match(r"(\w+)[\w.\[\]-]*:? ", text)
        joint = "." if own is not None and own[1] in kind.__struct_encode_fields__ else ": "
        raise Unfit(one_line(f"{at}{joint}{text}")) from error
    except BaseException as error:
        raise Unfit(at_load(error, home)) from error
