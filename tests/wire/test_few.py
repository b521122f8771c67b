"""The plain MessagePack of a program's first messages gives the same bytes and values as the package."""

import subprocess
import sys
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingle.wire import few

SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=8), inner, max_size=20),
    max_leaves=30,
)


def unpacked(data: bytes) -> Any:
    try:
        return few.unpack(data)
    except few.Unusual:
        return msgpack.unpackb(data)


@given(VALUES)
def test_values_have_the_bytes_of_the_package(value: Any) -> None:
    data = msgpack.packb(value)
    with suppress(few.Unusual):
        assert few.pack(value) == data
    assert unpacked(data) == value


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_sizes_have_the_bytes_of_the_package(size: int) -> None:
    for value in ("x" * size, [1] * size, {str(number): number for number in range(size)}, size):
        data = msgpack.packb(value)
        assert (size > 65535 and not isinstance(value, int)) or few.pack(value) == data
        assert unpacked(data) == value


@given(st.binary(max_size=60) | VALUES.map(msgpack.packb).map(lambda data: data[:-1]))
def test_whatever_the_bytes_are_it_is_unusual_or_what_the_package_says(data: bytes) -> None:
    try:
        found = few.unpack(data)
    except few.Unusual:
        return
    assert repr(msgpack.unpackb(data)) == repr(found)


def test_a_program_of_few_messages_does_not_import_the_package() -> None:
    program = (
        "import sys; from ingle.wire import codec\n"
        "message = {'t': 'x', 'text': 'y' * 300, 'n': 70000, 'list': [1, True, None, 'a']}\n"
        "for _ in range(codec.FEW // 2):\n"
        "    assert codec.unpack(codec.pack(message)) == message\n"
        "print('msgpack' in sys.modules)\n"
        "assert codec.unpack(codec.pack(message)) == message\n"
        "print('msgpack' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
