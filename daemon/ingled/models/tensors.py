"""What the weights of a model take, read from the headers of its safetensors files alone; no weights are touched.

A header is a file that a stranger wrote: sizes are bounded before anything is read, every offset must lie in the file,
and a file that is no plain file is not opened for reading.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

HEADER_BYTES = 32 << 20
"""Longest header that is read; the format allows 100 MB, and no model of 2026 is near either."""
INDEX_BYTES = 32 << 20
MOST_FILES = 4096
INDEX = "model.safetensors.index.json"

WIDTHS = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number; others (of less than a byte) are counted by their offsets alone."""
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Numbers that an engine casts to the type in which it computes."""


class Unreadable(ValueError):
    """The weights cannot be read; the text names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of one model."""

    files: int = 0
    count: int = 0
    bytes: int = 0
    """As they lie in the files."""
    floats: dict[str, int] = field(default_factory=dict)
    """How many numbers there are of each type that is cast when it is loaded."""

    def loaded_bytes(self, width: int) -> int:
        """Return what they take when numbers are cast to `width` bytes each; what is quantized stays as it is."""
        cast = sum(count * (width - WIDTHS[dtype]) for dtype, count in self.floats.items())
        return self.bytes + cast


class _Tensor(Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def parse(header: bytes, data_bytes: int, name: str) -> Tensors:
    """Read the JSON of one header, of a file with so many bytes behind it. Pure. Raises Unreadable."""
    tensors = _entries(header, data_bytes, name)
    total = 0
    floats: dict[str, int] = {}
    for tensor in tensors.values():
        begin, end = tensor.data_offsets
        total += end - begin
        if tensor.dtype in FLOATS:
            floats[tensor.dtype] = floats.get(tensor.dtype, 0) + (end - begin) // WIDTHS[tensor.dtype]
    if total > data_bytes:
        raise Unreadable(f"{name}: its tensors overlap: they have {total} bytes in a file of {data_bytes}")
    return Tensors(1, len(tensors), total, floats)


def shapes(path: Path) -> dict[str, list[int]]:
    """Return the shapes of a file's tensors, by name. Raises Unreadable."""
    return {name: one.shape for name, one in _entries(*_header(path), str(path)).items()}


def _entries(header: bytes, data_bytes: int, name: str) -> dict[str, _Tensor]:
    """Return what a header says, each tensor inside the file and of its shape. Raises Unreadable."""
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        tensors = {key: msgspec.json.decode(raw, type=_Tensor) for key, raw in entries.items()}
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name}: its header is not one of safetensors: {error}") from error
    for key, tensor in tensors.items():
        begin, end = tensor.data_offsets
        if not 0 <= begin <= end <= data_bytes:
            raise Unreadable(f"{name}: tensor {key[:80]!r} lies outside of the file: it is cut off or damaged")
        if any(size < 0 for size in tensor.shape) or len(tensor.shape) > 16:
            raise Unreadable(f"{name}: tensor {key[:80]!r} has an impossible shape")
        width, size = WIDTHS.get(tensor.dtype), end - begin
        if width is not None and prod(tensor.shape) * width != size:
            raise Unreadable(f"{name}: tensor {key[:80]!r} has a shape that is not that of its {size} bytes")
    return tensors


def add(all: Iterable[Tensors]) -> Tensors:
    """Return the tensors of several files together."""
    files = count = total = 0
    floats: dict[str, int] = {}
    for one in all:
        files, count, total = files + one.files, count + one.count, total + one.bytes
        for dtype, numbers in one.floats.items():
            floats[dtype] = floats.get(dtype, 0) + numbers
    return Tensors(files, count, total, floats)


def read(folder: Path) -> Tensors:
    """Return the tensors of a model's folder: those that its index names, else of all its safetensors files.

    Reads headers only. Raises Unreadable, also where there are no such files.
    """
    return add(parse(header, data, str(folder / name)) for name, header, data in headers(folder))


def headers(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield name, header and bytes of data of each file of weights that an engine would load. Raises Unreadable."""
    found = names(folder)
    if not found:
        raise Unreadable(f"{folder}: there are no weights in it (no .safetensors file)")
    if len(found) > MOST_FILES:
        raise Unreadable(f"{folder}: {len(found)} files of weights; at most {MOST_FILES} are read")
    for name in found:
        header, data = _header(folder / name)
        yield name, header, data


def names(folder: Path) -> list[str]:
    """Return the files of weights that an engine would load. Raises Unreadable."""
    index = folder / INDEX
    try:
        there = sorted(path.name for path in folder.iterdir() if path.name.endswith(".safetensors"))
        if not index.exists():
            return there
        with open_plain(index) as file:
            text = file.read(INDEX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"{error.filename or folder}: cannot be read: {error.strerror}") from error
    if len(text) > INDEX_BYTES:
        raise Unreadable(f"{index}: longer than {INDEX_BYTES} bytes")
    try:
        named = set(msgspec.json.decode(text, type=_Index).weight_map.values())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{index}: not an index of safetensors: {error}") from error
    odd = sorted(name for name in named if "/" in name or not name.endswith(".safetensors"))
    if odd:
        raise Unreadable(f"{index}: names {odd[0][:80]!r}, which is no file of weights beside it")
    return sorted(named)


class _Index(Struct, frozen=True):
    weight_map: dict[str, str]


def _header(path: Path) -> tuple[bytes, int]:
    """Return a file's header, and how many bytes are behind it."""
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > size - 8:
                raise Unreadable(f"{path}: shorter than its header: it is cut off, or no safetensors file")
            if length > HEADER_BYTES:
                raise Unreadable(f"{path}: its header has {length} bytes, at most {HEADER_BYTES} are read")
            return file.read(length), size - 8 - length
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from error


def open_plain(path: Path) -> IO[bytes]:
    """Open a plain file; anything else (a pipe would never end) is an error. Raises Unreadable and OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unreadable(f"{path}: not a plain file")
    return os.fdopen(fd, "rb")
