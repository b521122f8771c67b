"""What a request carries with it to its worker, so that a new broker can take it over. Private to one release."""

from typing import Any

import msgspec
from ingle.wire.hook_schema import HookOffer
from msgspec import Raw, Struct

from ingled.core.registry import Entry
from ingled.core.requests import Record, Stage
from ingled.link import Held


class Hook(Struct, frozen=True):
    """A hook that the request has met. A plugin's is there in every daemon; a client's died with its connection."""

    offer: HookOffer
    provider: str
    account: str | None
    label: str

    def entry(self) -> Entry:
        """Return it as a hook of this daemon, whose connections have numbers of their own."""
        provider = self.provider if self.account is None else GONE
        return Entry(self.offer, provider, self.account, label=self.label)


GONE = "conn:-1"
"""No connection has this number."""


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
    guarded: bool
    sealed: bool
    ran: list[dict[str, Any]]
    states: dict[str, bytes]
    handlers: list[Hook]
    met: list[Hook]


_decode = msgspec.msgpack.Decoder(Carried).decode


def pack(record: Record) -> bytes:
    """Return what a new broker needs of a record, beside op, body and text."""
    fields = {name: getattr(record, name) for name in Carried.__struct_fields__}
    fields["handlers"] = [_hook(one) for one in record.handlers]
    fields["met"] = [_hook(one) for one in record.met.values()]
    return msgspec.msgpack.encode(Carried(**fields))


def _hook(entry: Entry) -> Hook:
    return Hook(entry.offer, entry.provider, entry.account, entry.label)


def unpack(held: Held, worker: str) -> Record:
    """Return the record of a request that a worker holds. Raises ValueError for another release's."""
    carried = _decode(held.record)
    fields = {name: getattr(carried, name) for name in Carried.__struct_fields__}
    fields["handlers"] = [hook.entry() for hook in carried.handlers]
    met = [hook.entry() for hook in carried.met]
    fields["met"] = {entry.key: entry for entry in met}
    return Record(
        id=held.id,
        conn=None,
        op=held.op,
        body=Raw(bytes(held.body)),
        stream=held.stream,
        stage=Stage.QUEUED if held.waits else Stage.RUNNING,
        worker=worker,
        **fields,
    )
