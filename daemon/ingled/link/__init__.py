"""Messages of the private socket: broker on one side, nursery, workers and hook hosts on the other. Pure.

May change in any release; both ends always come from one installation. One message = one frame, MessagePack of a
tagged struct. The peer is the broker's own uid and proves itself with the start-up secret of the runtime folder.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ingled.link.files import *
from ingled.link.hosts import *
from ingled.link.hosts import ForHosts, OfHosts
from ingled.link.models import *
from ingled.link.to_broker import *
from ingled.link.to_broker import ToBroker
from ingled.link.to_peers import *
from ingled.link.to_peers import ToPeers

FromPeer = ToBroker | OfHosts
ToPeer = ToPeers | ForHosts

_encode = msgspec.msgpack.Encoder().encode
_from_peer = msgspec.msgpack.Decoder(FromPeer)
_to_peer = msgspec.msgpack.Decoder(ToPeer)


def encode(message: FromPeer | ToPeer) -> bytes:
    """Return the bytes of a private message."""
    return _encode(message)


def decode_from_peer(data: bytes | memoryview) -> FromPeer:
    """Read what a worker or nursery sent. Raises ValueError."""
    message: FromPeer = _from_peer.decode(data)
    return message


def decode_to_peer(data: bytes | memoryview) -> ToPeer:
    """Read what the broker sent. Raises ValueError."""
    message: ToPeer = _to_peer.decode(data)
    return message


def pack_body(body: Mapping[str, Any]) -> Raw:
    """Return a body as it travels in `Run`."""
    return Raw(_encode(body))
