"""What a plugin needs to take part in requests: one import for its author (docs/hooks.md).

from ingled.hooks import changed, hookimpl

@hookimpl
def ingled_prompt(messages):
    return changed([m | {"content": m["content"].replace("Bob", "B.")} for m in messages])
"""

from ingle.wire.hook_schema import Hold

from ingled.hooks.specs import Answer, Call, Change, Handler, Hook, Message, RequestValue, hookimpl
from ingled.hooks.verdicts import Stop, Verdict, answered, changed, note, refuse

__all__ = [
    "Answer",
    "Call",
    "Change",
    "Handler",
    "Hold",
    "Hook",
    "Message",
    "RequestValue",
    "Stop",
    "Verdict",
    "answered",
    "changed",
    "hookimpl",
    "note",
    "refuse",
]
