"""What is too large for the daemon is refused here, before it is sent. PURE: a part of `ingle.session`."""

from __future__ import annotations

from ingle.errors import Refused
from ingle.wire.codec import Message, Unreadable, pack

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any


def packed(message: Message, limit: int) -> bytes:
    """Return the bytes of a message of at most `limit` bytes. Raises Refused."""
    try:
        data = pack(message)
    except Unreadable as error:
        code = "too_large" if "limit" in str(error) else "bad_value"
        raise Refused(code, str(error), "send less, or plainer values") from error
    if len(data) > limit:
        raise Refused("too_large", f"message has {len(data)} bytes, the limit is {limit}", "send less text")
    return data


def check_schema(body: Message, limit: int) -> None:
    """Raise Refused when the JSON schema in the body of a request has more than `limit` bytes."""
    shape: Any = body.get("response_format")
    schema: Any = shape.get("json_schema", {}).get("schema") if isinstance(shape, dict) else None
    if schema is None:
        return
    size = len(pack({"t": "schema", "schema": schema}))
    if size > limit:
        at = "body.response_format.json_schema.schema"
        text = f"the JSON schema has {size} bytes, the limit is {limit}"
        raise Refused("too_large", text, "use a smaller one", at=at)
