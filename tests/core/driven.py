"""A core driven by hand: the events that tests give it, and what they look for among its effects."""

from typing import Any, TypeVar

from ingle.wire.schema import Failed
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import ADMIN, Caller
from ingled.core.control import Control
from ingled.core.desk import Limits
from ingled.core.residency import Model
from msgspec import Raw

ALICE = Caller(1, "uid:1000")
BOB = Caller(2, "uid:1001")
ROOT = Caller(3, "uid:0", ADMIN)
T = TypeVar("T")


def control(held: int = 0, **limits: Any) -> Control:
    return Control([Model("ember", ("e",)), Model("coal")], "ember", Limits(**limits), lambda id: held)


def request(id: str = "r1", caller: Caller = ALICE, now: float = 1.0, **changes: Any) -> on.RequestArrived:
    fields: dict[str, Any] = {
        "model": None,
        "body": Raw(b""),
        "stream": True,
        "credit": 4,
        "deadline_ms": None,
        "detach": False,
        "grace_ms": 0,
        "priority": 0,
    }
    return on.RequestArrived(now=now, caller=caller, ref=9, id=id, op="chat", **(fields | changes))


def only(effects: list[do.Effect], kind: type[T]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def ends(effects: list[do.Effect]) -> list[tuple[str, str]]:
    """Ids and codes (or `done`) of the requests that these effects end."""
    found = []
    for effect in effects:
        end = effect.end if isinstance(effect, do.CloseStream | do.CutStream) else None
        if end is not None:
            found.append((str(end.id), end.code if isinstance(end, Failed) else "done"))
    return found


def refusals(effects: list[do.Effect]) -> list[str]:
    return [e.message.code for e in only(effects, do.Send) if isinstance(e.message, Failed)]


def make_ready(core: Control, name: str = "ember", now: float = 2.0, pid: int = 50) -> list[do.Effect]:
    return [
        *core.handle(on.WorkerForked(now, name, pid)),
        *core.handle(on.WorkerAttached(now, name, str(pid), pid)),
        *core.handle(on.WorkerReady(now, name, pid)),
    ]


def ended(id: str = "r1", now: float = 3.0, finish: str = "stop") -> on.RunEnded:
    return on.RunEnded(now, id, finish, 10, 4, 5, 12.5, None, None)
