"""Others are short of memory when two looks in a row say so."""

from ingled.broker.pressure import Pressure
from ingled.core import events as on
from ingled.machine import Memory

GIB = 1 << 30


def test_one_look_is_not_enough_and_each_memory_is_looked_at_by_itself() -> None:
    told: list[on.Event] = []
    pressure = Pressure(told.append)
    pressure.seen(0, 5)
    pressure.seen(0, 7, host=True)
    assert told == []
    pressure.seen(5, 6)
    assert told == [on.MemoryShort(5, 6)]
    pressure.seen(5, 0, host=True)
    pressure.seen(10, 8, host=True)
    assert len(told) == 1, "it had come back meanwhile"
    pressure.seen(10, 6)
    pressure.seen(15, 9, host=True)
    assert told[1:] == [on.MemoryShort(10, 6), on.MemoryShort(15, 9, host=True)]
    pressure.seen(15, -3)
    pressure.seen(20, 3)
    assert len(told) == 3


def test_each_device_is_looked_at_by_itself() -> None:
    told: list[on.Event] = []
    pressure = Pressure(told.append)
    pressure.seen(0, 5, device=0)
    pressure.seen(0, 7, device=1)
    pressure.seen(5, -1, device=0)
    pressure.seen(5, 6, device=1)
    assert told == [on.MemoryShort(5, 6, device=1)]


def test_what_might_be_free_at_best_is_what_others_are_not_to_have() -> None:
    memory = Memory(40 * GIB, 3 * GIB)
    assert memory.most(None, 4 * GIB) == 36 * GIB
    assert memory.most(30 * GIB, 4 * GIB) == 30 * GIB
    assert memory.most(None, 4 * GIB, daemon=GIB) == 35 * GIB, "what the daemon keeps never comes back"
    assert memory.budget(10 * GIB, None, 4 * GIB) == 9 * GIB, "now"


def test_what_is_missing_is_what_others_are_to_have_and_have_not() -> None:
    memory = Memory(40 * GIB, 3 * GIB)
    assert memory.missing(4 * GIB) == GIB
    assert memory.missing(2 * GIB) == -GIB
    assert memory.missing(None) == -GIB, "a twentieth"
