"""Vectors are packed once, as a client reads them."""

import random
from array import array

import msgpack
import pytest
from ingle.wire.limits import FRAME_BYTES
from ingled.worker import vectors
from ingled.worker.engine import EngineRefused


def test_what_is_packed_is_read_as_it_was() -> None:
    dice = random.Random(3)
    given = [array("f", [dice.uniform(-2, 2) for _ in range(size)]) for size in (0, 1, 3, 384)]
    packed = vectors.pack(given)
    assert msgpack.unpackb(packed) == [list(one) for one in given], "to the last bit"
    assert len(packed) == 5 + sum(5 + 5 * len(one) for one in given)


def test_more_than_a_message_holds_is_refused_before_it_is_made() -> None:
    most = vectors.ROOM_BYTES // (5 * 1025)
    vectors.check_room(most, 1024)
    assert len(vectors.pack([array("f", [0.5] * 1024)] * most)) < FRAME_BYTES - 1024
    with pytest.raises(EngineRefused, match=f"{most + 1} vectors of 1024") as refused:
        vectors.check_room(most + 1, 1024)
    assert (refused.value.code, refused.value.at) == ("too_large", "body.input")
    assert str(most) in refused.value.hint
