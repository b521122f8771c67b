"""The exception tree."""

import pytest
from ingle import errors
from ingle.errors import Cancelled, DaemonFailed, NoSuchModel, ProtocolError, Refused, Unreachable, from_failed


@pytest.mark.parametrize(
    ("code", "fault", "kind"),
    [
        ("no_such_model", "client", NoSuchModel),
        ("cancelled", "daemon", Cancelled),
        ("bad_value", "client", Refused),
        ("refused_by_hook", "hook:redact", Refused),
        ("does_not_fit", "model", Refused),
        ("a_new_code", "client", Refused),
        ("a_new_code", "daemon", DaemonFailed),
        ("worker_died", "worker", DaemonFailed),
        ("no_such_request", "daemon", DaemonFailed),
        ("incompatible_protocol", "client", ProtocolError),
    ],
)
def test_who_was_wrong_decides_the_branch(code: str, fault: str, kind: type[Exception]) -> None:
    error = from_failed({"code": code, "message": "m", "hint": "h", "fault": fault})
    assert type(error) is kind
    assert (str(error), error.hint) == ("m", "h")


def test_a_failure_carries_what_the_daemon_said() -> None:
    error = from_failed({"code": "bad_value", "message": "m", "at": "body.seed", "id": "r1", "retry_after_ms": 5})
    assert isinstance(error, DaemonFailed | Refused)
    assert (error.code, error.at, error.id, error.retry_after_ms) == ("bad_value", "body.seed", "r1", 5)


def test_unreachable_names_the_socket_and_how_to_start_a_daemon() -> None:
    error = Unreachable("/run/x", "absent")
    assert "/run/x" in str(error)
    assert "ingled" in error.hint


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    public = {name for name, value in vars(errors).items() if isinstance(value, type) and name[0] != "_"}
    drawn = {word for line in (errors.__doc__ or "").splitlines() for word in line.split() if word in public}
    assert drawn == public - {"Any", "Final"}
