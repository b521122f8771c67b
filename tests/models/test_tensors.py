"""Headers of safetensors files, well made and hostile."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingled.models import tensors
from ingled.models.builtin import ember_path
from ingled.models.tensors import Tensors, Unreadable


def header(**entries: Any) -> bytes:
    return json.dumps(entries).encode()


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, head: bytes, data: int, length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + bytes(data))
    return path


def test_the_built_in_models_weights_are_counted() -> None:
    found = tensors.read(ember_path())
    size = (ember_path() / "model.safetensors").stat().st_size
    assert found.files == 1 and found.count == 46
    assert 0.9 * size < found.bytes < size
    assert found.floats == {"BF16": found.bytes // 2}
    assert found.loaded_bytes(2) == found.bytes and found.loaded_bytes(4) == 2 * found.bytes


def test_what_is_quantized_is_not_cast() -> None:
    head = header(a=tensor("BF16", [4], 0, 8), b=tensor("I8", [8], 8, 16), c=tensor("F4", [3], 16, 20))
    found = tensors.parse(head, 20, "x")
    assert (found.bytes, found.loaded_bytes(4), found.loaded_bytes(2)) == (20, 28, 20)


def test_an_index_says_which_files_count(tmp_path: Path) -> None:
    for name in ("a", "b", "consolidated"):
        write(tmp_path / f"{name}.safetensors", header(t=tensor("F32", [2], 0, 8)), 8)
    assert tensors.read(tmp_path).bytes == 24
    index = {"metadata": {"total_size": 16}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / tensors.INDEX).write_text(json.dumps(index))
    assert tensors.read(tmp_path) == Tensors(2, 2, 16, {"F32": 4})


@pytest.mark.parametrize(
    ("head", "data", "words"),
    [
        (b"", 0, "not one of safetensors"),
        (b"[1]", 0, "not one of safetensors"),
        (b'{"a": ' * 100_000, 0, "not one of safetensors"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0, "not one of safetensors"),
        (header(a={"dtype": "F32"}), 0, "not one of safetensors"),
        (header(a=tensor("F32", [2], 0, 16)), 8, "outside of the file"),
        (header(a=tensor("F32", [2], -8, 0)), 8, "outside of the file"),
        (header(a=tensor("F32", [2], 8, 0)), 8, "outside of the file"),
        (header(a=tensor("F32", [2], 0, 10**30)), 8, "outside of the file"),
        (header(a=tensor("F32", [2**62, 2**62], 0, 8)), 8, "not that of its 8 bytes"),
        (header(a=tensor("F32", [-1, -2], 0, 8)), 8, "impossible shape"),
        (header(a=tensor("F32", [1] * 1000, 0, 4)), 4, "impossible shape"),
        (header(a=tensor("F32", [2], 0, 8), b=tensor("F32", [2], 0, 8)), 8, "overlap"),
    ],
)
def test_a_hostile_header_is_refused(head: bytes, data: int, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        tensors.parse(head, data, "evil.safetensors")


@pytest.mark.parametrize(("length", "size"), [(2**63, 0), (100, 4), (tensors.HEADER_BYTES + 1, 40 << 20)])
def test_a_header_longer_than_allowed_is_not_read(tmp_path: Path, length: int, size: int) -> None:
    path = write(tmp_path / "evil.safetensors", b"{}", 0, length)
    os.truncate(path, 10 + size)  # sparse
    with pytest.raises(Unreadable, match=r"cut off|at most"):
        tensors.read(tmp_path)


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(Unreadable, match="not a plain file"):
        tensors.read(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_cannot_point_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / tensors.INDEX).write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(Unreadable, match="no file of weights beside it"):
        tensors.read(tmp_path)


def test_a_folder_without_weights_and_a_missing_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no weights"):
        tensors.read(tmp_path)
    with pytest.raises(Unreadable, match="cannot be read: No such file"):
        tensors.read(tmp_path / "gone")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 1000))
def test_no_header_raises_anything_else(head: bytes, data: int) -> None:
    try:
        found = tensors.parse(head, data, "x")
    except Unreadable:
        return
    assert found.bytes <= data
