"""How what is said in a request becomes a message's fields."""

from __future__ import annotations

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ingle.options import Messages

_ENVELOPE = ("model", "deadline_ms", "detach", "grace_ms", "priority", "context", "trace")


def turns(messages: Messages, system: str | None = None) -> list[dict[str, Any]]:
    """Return a conversation as a list of turns, led by the system's text where there is one."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    said = [dict(turn) for turn in messages]
    return said if system is None else [{"role": "system", "content": system}, *said]


def parts(what: dict[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the body of a request and the arguments of `Session.request` around it."""
    body = what | {key: value for key, value in options.items() if key not in _ENVELOPE and value is not None}
    return body, {key: options[key] for key in _ENVELOPE if key in options}
