"""`ingle cancel`: end a request."""

from ingle.cli.grammar import JSON, Given, Verb
from ingle.cli.output import print_json
from ingle.line import Line


def run(given: Given) -> int:
    """Cancel a request of this account."""
    id = given.words[0]
    with Line(given.value("socket")) as line:
        value = line.cancel(id)
    if given.switch("json"):
        print_json(value)
    else:
        print(f"{id}: cancelled" if value["cancelled"] else f"{id}: nothing to cancel, it is {value.get('state')}")
    return 0


VERB = Verb(
    "cancel",
    "end a request",
    run,
    "Ends request ID of the same account, wherever it was started. Who reads it is told that it was cancelled.",
    "ID",
    least=1,
    most=1,
    options=(JSON,),
    examples=(("ingle cancel $(ingle requests --names)", "Ends the only request."),),
)
