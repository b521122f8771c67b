"""What a request carries with it to its worker, so that a new broker can take it over. Private to one release."""

import msgspec
from msgspec import Raw, Struct

from ingled.core.requests import Record, Stage
from ingled.link import Held


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


_decode = msgspec.msgpack.Decoder(Carried).decode


def pack(record: Record) -> bytes:
    """Return what a new broker needs of a record, beside op, body and text."""
    carried = Carried(**{name: getattr(record, name) for name in Carried.__struct_fields__})
    return msgspec.msgpack.encode(carried)


def unpack(held: Held, worker: str) -> Record:
    """Return the record of a request that a worker holds. Raises ValueError for another release's."""
    carried = _decode(held.record)
    fields = {name: getattr(carried, name) for name in Carried.__struct_fields__}
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
