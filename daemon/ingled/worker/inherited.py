"""Which pages a process still shares with the one that it was forked from, by its own page table.

The kernel tells each process of its own pages whether another one has them too (bit 56 of `/proc/PID/pagemap`,
proc(5)), without privileges; where they are it keeps for itself.
"""

import sys
from collections.abc import Iterator
from io import FileIO
from mmap import PAGESIZE
from pathlib import Path

ENTRY = 8
FLAGS = 7 if sys.byteorder == "little" else 0
"""The byte of an entry that has its flags."""
PRESENT, OF_FILE, ALONE = 0x80, 0x20, 0x01
SHARED = bytes(flags & (PRESENT | OF_FILE | ALONE) == PRESENT for flags in range(256))
"""For each value of these flags, whether it is memory that is no file, and somebody else has it too: the page of zeros
counts, which is nobody's; a nursery has two or three that it has read and never written to."""
LARGE = 1 << 33
"""An area of so many bytes is no more than reserved: before it loads a model, no process has as much."""


class Inherited:
    """The pages that this process shares with others as this is made. Raises OSError where the kernel tells none."""

    def __init__(self) -> None:
        with _table() as table:
            found = [(first, _shared(table, first, last)) for first, last in areas()]
        self._areas = [(first, pages) for first, pages in found if pages]

    def still(self) -> int:
        """Return how many bytes of them it still shares. Raises OSError where the kernel tells no pages."""
        with _table() as table:
            return PAGESIZE * sum(_both(table, first, before) for first, before in self._areas)


def areas() -> Iterator[tuple[int, int]]:
    """Return where pages may be that are this process's own or come from the one that it was forked from."""
    for line in Path("/proc/self/maps").read_bytes().split(b"\n")[:-1]:
        where, rights = line.decode(errors="replace").split(maxsplit=2)[:2]
        first, last = (int(part, 16) for part in where.split("-"))
        if rights[0] == "r" and rights[3] == "p" and last - first < LARGE:
            yield first, last


def _table() -> FileIO:
    return FileIO("/proc/self/pagemap")


def _shared(table: FileIO, first: int, last: int) -> int:
    """Return a number with a byte for each page between these addresses: 1 for one that others have too."""
    table.seek(first // PAGESIZE * ENTRY)
    entries = table.read((last - first) // PAGESIZE * ENTRY)
    return int.from_bytes(entries[FLAGS::ENTRY].translate(SHARED), "little")


def _both(table: FileIO, first: int, before: int) -> int:
    """Return how many of the pages that were shared from this address on still are."""
    length = -(-before.bit_length() // 8)
    return (before & _shared(table, first, first + length * PAGESIZE)).bit_count()
