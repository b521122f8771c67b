"""The client's side of the wire: what is not a message is told apart, cheaply."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.wire.codec import Unreadable, pack, unpack
from ingle.wire.limits import DEPTH, FRAME_BYTES

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=4))
def test_what_is_packed_is_read_back(fields: dict[str, object]) -> None:
    message = fields | {"t": "x"}
    assert unpack(pack(message)) == message


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_unreadable(data: bytes) -> None:
    with contextlib.suppress(Unreadable):
        assert isinstance(unpack(data)["t"], str)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", b"\x81\xa1t\x01", msgpack.packb([1]), msgpack.packb({"t": "x"}) + b"\x00"],
    ids=["empty", "reserved byte", "no t", "t not text", "list", "trailing byte"],
)
def test_what_is_not_a_message_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(data)


def test_lying_headers_and_deep_nesting_are_unreadable() -> None:
    for data in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 100_000):
        with pytest.raises(Unreadable):
            unpack(data)


def test_size_and_depth_have_limits() -> None:
    with pytest.raises(Unreadable, match="the limit is"):
        pack({"t": "x", "data": bytes(FRAME_BYTES)})
    with pytest.raises(Unreadable, match="the limit is"):
        unpack(bytes(FRAME_BYTES + 1))
    deep: object = 1
    for _ in range(DEPTH):
        deep = [deep]
    with pytest.raises(Unreadable, match="deeper"):
        pack({"t": "x", "deep": deep})
    with pytest.raises(Unreadable, match=r"cannot be packed: body\.stop\[1\] is a number of more than 64 bits"):
        pack({"t": "x", "body": {"seed": (1 << 64) - 1, "stop": [-1 << 63, 1 << 64]}})
    with pytest.raises(Unreadable, match="cannot be packed"):
        pack({"t": "x", "what": object()})
