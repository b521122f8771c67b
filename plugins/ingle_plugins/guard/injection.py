"""Text that gives orders to a model where it should only be read: what prompt injections look like.

No list of expressions finds every injection. These (injections.txt) are the ones that are used again and again; they
say what they match, so that a policy can choose. In the user's own words only some of them are suspicious.
"""

from functools import cache
from pathlib import Path

from ingle_plugins.guard.rules import Matcher


@cache
def _matchers() -> dict[str, Matcher]:
    short: dict[str, str] = {}
    found: dict[str, list[tuple[str, str]]] = {"all": [], "tools": [], "hidden": []}
    for line in Path(__file__).with_name("injections.txt").read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind in found:
            name, _, expression = rest.strip().partition(" ")
            for key, value in short.items():
                expression = expression.replace("{" + key + "}", value)
            found[kind].append((name, expression.strip()))
        elif kind and kind != "#":
            short[kind] = rest.strip()
    found["tools"] += found["all"]
    return {kind: Matcher(tuple(expressions)) for kind, expressions in found.items()}


def injections(raw: str, read: str, *, own: bool) -> list[str]:
    """Return the names of the injections in a text: as it is, and as a reader sees it. `own`: the user wrote it."""
    matchers = _matchers()
    return matchers["hidden"].find(raw) + matchers["all" if own else "tools"].find(read)
