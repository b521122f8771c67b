"""Regular expressions that take time linear in the text, whatever they say: RE2's (`pip install 'ingle[plugins]'`)."""

from functools import lru_cache
from typing import Any

MEMORY = 64 << 20
"""Bytes for what an expression becomes: long repeats are slow where that does not fit."""


def settings(*, case_sensitive: bool = True) -> Any:
    """Return RE2's options for all expressions of the plugins."""
    import re2

    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.log_errors = False
    options.max_mem = MEMORY
    return options


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Return an expression, compiled when it is first needed. Raises ValueError with what is wrong with it."""
    import re2

    try:
        return re2.compile(pattern, settings())
    except re2.error as error:
        raise ValueError(f"{pattern!r}: {said(error)}") from None


def said(error: Exception) -> str:
    """Return what RE2 says of an expression."""
    text = error.args[0] if error.args else error
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
