"""What a plugin needs to take part in requests: one import for its author (docs/hooks.md).

from ingled.hooks import changed, hookimpl

@hookimpl
def ingled_prompt(messages):
    return changed([m | {"content": m["content"].replace("Bob", "B.")} for m in messages])
"""

from ingle.verdicts import Stop, Verdict, answered, changed, note, refuse
from ingle.wire.hook_schema import Hold

from ingled.hooks.dictionary import Dictionary
from ingled.hooks.rewriter import Rewriter
from ingled.hooks.specs import Answer, Call, Change, Handler, Hook, Message, RequestValue, hookimpl

__all__ = [
    "Answer",
    "Call",
    "Change",
    "Dictionary",
    "Handler",
    "Hold",
    "Hook",
    "Message",
    "RequestValue",
    "Rewriter",
    "Stop",
    "Verdict",
    "answered",
    "changed",
    "hookimpl",
    "note",
    "refuse",
]
