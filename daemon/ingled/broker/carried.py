"""What a request takes along, to its worker or the waiting room, so that a new broker can take it over.

Private to one release.
"""

from operator import attrgetter
from typing import Any

import msgspec
from ingle.wire.hook_schema import HookOffer
from msgspec import Raw, Struct
from msgspec.structs import replace

from ingled.broker.waiting_room import Waits
from ingled.core.flow import Stream
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
    answer: str | None
    ran: list[dict[str, Any]]
    states: dict[str, bytes]
    handlers: list[Hook]
    met: list[Hook]


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Carried).decode
_plain = attrgetter(*Carried.__struct_fields__[:-2])
"""Takes all but `handlers` and `met` from a record: those are the same in both."""


def pack(record: Record) -> bytes:
    """Return what a new broker needs of a record, beside op, body and text."""
    hooks = ([_hook(one) for one in record.handlers], [_hook(one) for one in record.met.values()])
    fields: list[Any] = [*_plain(record), *hooks]
    return _encode(Carried(*fields))


def _hook(entry: Entry) -> Hook:
    return Hook(entry.offer, entry.provider, entry.account, entry.label)


def waits(record: Record, stream: Stream) -> Waits:
    """Return what a new broker needs of a request that no worker holds."""
    made = stream.of_engine
    offset = made[0][0] if made else stream.made
    held = Held(record.id, record.op, record.body, record.stream, pack(record), offset, stream.tokens, waits=True)
    if record.answer is not None:  # its text is made from that again
        return Waits(record.account, replace(held, offset=0, tokens=[]), [], True)
    return Waits(record.account, held, list(made), record.stage is Stage.FILTERING)


def unpack(held: Held, worker: str | None, *, filtering: bool = False) -> Record:
    """Return the record of a request that a worker holds, or nobody. Raises ValueError for another release's."""
    carried = _decode(held.record)
    fields = {name: getattr(carried, name) for name in Carried.__struct_fields__}
    fields["handlers"] = [hook.entry() for hook in carried.handlers]
    met = [hook.entry() for hook in carried.met]
    fields["met"] = {entry.key: entry for entry in met}
    if filtering and carried.answer is not None:  # those that handle the answer begin anew
        fields |= {"handlers": [], "watched": False, "guarded": False, "sealed": False}
    elif filtering:  # its hooks begin anew
        fields |= {"ran": [], "states": {}, "handlers": [], "hooked": False}
    return Record(
        id=held.id,
        conn=None,
        op=held.op,
        body=Raw(bytes(held.body)),
        stream=held.stream,
        stage=Stage.FILTERING if filtering else Stage.QUEUED if held.waits else Stage.RUNNING,
        worker=worker,
        **fields,
    )
