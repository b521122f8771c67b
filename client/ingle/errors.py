"""What can go wrong, as one tree.

    IngleError
     +-- Refused            you asked for something that cannot be: see `code`, `hint`, `at`
     |    +-- NoSuchModel       the daemon has no model of this name
     |    +-- PromptTooLong     the prompt does not fit the model's context
     |    +-- NotAllowed        your account may not do this
     |    +-- Cancelled         somebody of your account cancelled the request
     +-- DaemonFailed       something broke on the other side: see `code` and `fault`
     +-- Unreachable        no daemon answers at the socket: see `reason`
     +-- ProtocolError      the two sides do not understand each other

`code` is one of the closed list in docs/protocol.md. This file must stay cheap to import.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any, Final

REFUSALS: Final = frozenset(
    (
        "bad_message",
        "too_large",
        "unknown_field",
        "bad_value",
        "unsupported",
        "no_such_model",
        "no_such_request",
        "prompt_too_long",
        "not_allowed",
        "over_limit",
        "cancelled",
        "refused_by_hook",
        "license_needed",
        "does_not_fit",
        "already_exists",
        "conflict",
    )
)
"""Codes that say that the request was at fault, unless the daemon takes the blame itself."""


class IngleError(Exception):
    """Anything that this package raises on purpose; `hint` says what to do next."""

    hint: str = ""
    failed: dict[str, Any] | None = None
    """The daemon's `failed` message, where it is one that says so."""


class _Answered(IngleError):
    """A `failed` message of the daemon, or one that the client would have got had it asked."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        fault: str = "client",
        at: str | None = None,
        id: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.fault = fault
        self.at = at
        """Path of the field that is wrong, such as `body.temperature`."""
        self.id = id
        """The request that failed, when it had been accepted."""
        self.retry_after_ms = retry_after_ms


class Refused(_Answered):
    """The request cannot be served as it is; asking again the same way will fail again."""


class NoSuchModel(Refused):
    """The daemon has no model of this name."""


class PromptTooLong(Refused):
    """The prompt does not fit the model's context."""


class NotAllowed(Refused):
    """The account may not do this."""


class Cancelled(Refused):
    """The request was cancelled."""


class DaemonFailed(_Answered):
    """Something broke on the other side, or it is too busy; `fault` says who, `retry_after_ms` may say
    when.
    """


class Unreachable(IngleError):
    """No daemon answers: `reason` is absent, refused, permission, silent, lost, foreign or too_long."""

    def __init__(self, socket: str, reason: str, detail: str = "") -> None:
        text = _REASONS.get(reason, reason)
        super().__init__(f"{text} at {socket}" + (f": {detail}" if detail else ""))
        self.socket = socket
        self.reason = reason
        self.hint = _HINTS.get(reason, _START)


class ProtocolError(IngleError):
    """The daemon said something that this client does not understand; the connection is closed."""


_START: Final = "start one with `ingled` or `systemctl --user start ingled`"
_REASONS: Final = {
    "absent": "no daemon: nothing is there",
    "refused": "no daemon: nobody listens",
    "permission": "no access to the daemon",
    "silent": "the daemon does not answer",
    "lost": "the daemon has gone",
    "foreign": "this is not an ingle daemon",
    "too_long": "the path is too long for a socket",
}
_HINTS: Final = {
    "permission": "the socket is for its owner and group; ask its administrator to let you in",
    "silent": "it may be starting or hung; see its log with `ingle logs`",
    "foreign": "name the daemon's socket with --socket or INGLE_SOCKET",
    "too_long": "choose a shorter one, for the daemon and here (--socket, INGLE_SOCKET, XDG_RUNTIME_DIR)",
}
_CLASSES: Final[dict[str, type[Refused]]] = {
    "no_such_model": NoSuchModel,
    "prompt_too_long": PromptTooLong,
    "not_allowed": NotAllowed,
    "cancelled": Cancelled,
}


def from_failed(message: dict[str, Any]) -> IngleError:
    """Return the exception for a `failed` message."""
    code = str(message.get("code", "internal"))
    text = str(message.get("message", code))
    hint = str(message.get("hint", ""))
    fault = str(message.get("fault", "daemon"))
    if code == "incompatible_protocol":
        unknown = ProtocolError(text)
        unknown.hint, unknown.failed = hint, message
        return unknown
    refused = code in _CLASSES or fault == "client" or (code in REFUSALS and fault != "daemon")
    kind = _CLASSES.get(code, Refused) if refused else DaemonFailed
    error = kind(
        code,
        text,
        hint,
        fault=fault,
        at=message.get("at"),
        id=message.get("id"),
        retry_after_ms=message.get("retry_after_ms"),
    )
    error.failed = message
    return error
