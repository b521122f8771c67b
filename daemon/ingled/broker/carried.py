"""What a request carries with it to its worker, so that a new broker can take it over. Private to one release."""

from typing import Any

import msgspec
from ingle.wire.hook_schema import HookOffer
from msgspec import Raw, Struct

from ingled.core.registry import Entry
from ingled.core.requests import Record, Stage
from ingled.link import Held


class Handler(Struct, frozen=True):
    """A chunk handler of the answer. A plugin's is there in every daemon; a client's died with its connection."""

    offer: HookOffer
    provider: str
    account: str | None
    label: str

    def entry(self) -> Entry:
        """Return it as a hook of this daemon."""
        return Entry(self.offer, self.provider, self.account, label=self.label)


class Carried(Struct, frozen=True):
    """A record without what the worker knows by itself. Times are of the machine's monotonic clock."""

    account: str
    model: str
    detach: bool
    grace_ms: int
    priority: int
    arrived: float
    waited: bool
    run_at: float
    deadline_at: float | None
    resumed: int
    client: str
    tags: tuple[str, ...]
    context: list[dict[str, Any]]
    trace: bool
    hooked: bool
    watched: bool
    ran: list[dict[str, Any]]
    states: dict[str, bytes]
    handlers: list[Handler]


_decode = msgspec.msgpack.Decoder(Carried).decode


def pack(record: Record) -> bytes:
    """Return what a new broker needs of a record, beside op, body and text."""
    handlers = [Handler(one.offer, one.provider, one.account, one.label) for one in record.handlers]
    fields = {name: getattr(record, name) for name in Carried.__struct_fields__}
    carried = Carried(**fields | {"handlers": handlers})
    return msgspec.msgpack.encode(carried)


def unpack(held: Held, worker: str) -> Record:
    """Return the record of a request that a worker holds. Raises ValueError for another release's."""
    carried = _decode(held.record)
    fields = {name: getattr(carried, name) for name in Carried.__struct_fields__}
    fields["handlers"] = [handler.entry() for handler in carried.handlers]
    return Record(
        id=held.id,
        conn=None,
        op=held.op,
        body=Raw(bytes(held.body)),
        stream=held.stream,
        stage=Stage.RUNNING,
        worker=worker,
        **fields,
    )
