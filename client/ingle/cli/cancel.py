"""`ingle cancel`: end a request."""

from __future__ import annotations

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json, print_line
from ingle.line import Line

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from typing import Any


def run(given: Given) -> int:
    """Cancel a request of this account."""
    id = given.words[0]
    with Line(given.value("socket")) as line:
        value = line.cancel(id)
    if given.switch("json"):
        print_json(value)
    else:
        print_line(_said(id, value))
    return 0


def _said(id: str, value: dict[str, Any]) -> str:
    if value["cancelled"]:
        return f"{id}: cancelled"
    if value.get("state") == "kept":
        return f"{id} was over; its kept answer has been dropped"
    return f"{id}: nothing to cancel, it is {value.get('state')}"


VERB = Verb(
    "cancel",
    run,
    """Ends request ID of the same account, wherever it was started. Who reads it is told that it was
    cancelled. Of a request that is over, the answer that was kept for `ingle attach` is dropped.
    """,
    "ID",
    least=1,
    most=1,
    options=(JSON,),
    examples=(("ingle cancel $(ingle requests --names)", "Ends the only request."),),
)
