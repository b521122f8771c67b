"""The messages and effects that tell somebody how a thing ended. Pure."""

from ingle.wire.schema import Code, Failed, Progress, Usage
from msgspec import UNSET, UnsetType

from ingled.core import effects as do
from ingled.core.naming import Unusable
from ingled.core.requests import Record
from ingled.core.residency import Model, State


def ms(seconds: float) -> float:
    """Return milliseconds for people: never negative, to the microsecond."""
    return round(max(0.0, seconds) * 1000, 3)


def failed(
    id: str,
    code: Code,
    message: str,
    hint: str,
    fault: str,
    *,
    at: str | UnsetType = UNSET,
    usage: Usage | UnsetType = UNSET,
) -> Failed:
    """Return the end of an accepted request that did not go well."""
    return Failed(code, message, hint, fault, id=id, at=at, usage=usage)


def refuse(
    conn: int,
    ref: int,
    code: Code,
    message: str,
    hint: str,
    *,
    at: str | UnsetType = UNSET,
    retry: float | None = None,
) -> do.Send:
    """Return the refusal of a message by its `ref`; `retry` is in seconds."""
    fault = {"draining": "daemon", "queue_full": "daemon", "load_failed": "model"}.get(code, "client")
    after = UNSET if retry is None else round(retry * 1000)
    return do.Send(conn, Failed(code, message, hint, fault, ref=ref, at=at, retry_after_ms=after))


def unusable(conn: int, ref: int, why: Unusable) -> do.Send:
    """Return the refusal of a call for a model that there is not, or not for this account."""
    return refuse(conn, ref, *why, at="args.model")


def no_such_request(conn: int, ref: int, id: str) -> do.Send:
    """Return the refusal for an id that this account has no request of."""
    message = f"request '{id[:64]}' does not exist, or has ended and is not kept"
    return refuse(conn, ref, "no_such_request", message, "see `ingle requests`", at="id")


def why_failed(model: Model) -> tuple[Code, str, str]:
    """Return code, message and hint for a model that cannot be loaded."""
    why = model.why or "unknown reason"
    return "load_failed", f"model '{model.name}' cannot be loaded: {why}", f"see `ingle show {model.name}`"


IN_WORDS = {
    State.READY: "runs as many as it can",
    State.CHECKING: "is looked at, because the machine was suspended",
}
"""Why a model that is in such a state is waited for."""


def told(model: Model, now: float) -> Progress:
    """Return what somebody who waits for a model is told."""
    left = model.left_s(now)
    eta = UNSET if left is None else round(left * 1000)
    if model.state is State.LOADING:
        return Progress("loading", percent=model.so_far(now), what=model.doing, eta_ms=eta)
    if model.state is State.WAKING:
        return Progress("waking", what=model.name, eta_ms=eta)
    what = IN_WORDS.get(model.state, f"is {model.state.value}")
    phase, why = model.waits or ("queued", f"{model.name}: it {what}")
    return Progress(phase, what=why)


def request_event(record: Record, state: str | None = None) -> do.Publish:
    """Return the event that a request has changed; those hear it who may see the request."""
    value = {"id": record.id, "model": record.model, "account": record.account, "state": state or record.stage.value}
    return do.Publish("request", value, record.account)
