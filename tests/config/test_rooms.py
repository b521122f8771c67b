"""What models may take: what the daemon keeps for itself is subtracted, and once."""

import pytest
from ingled.config import load
from ingled.core.eviction import CheapestBack
from ingled.core.placement import Device, Fits, Never, Terms, Wait
from ingled.machine import Memory
from ingled.rooms import DAEMON_BYTES, rooms

GIB = 1 << 30
WHOLE = [Device("memory", whole=True)]
KEEPS = DAEMON_BYTES["vllm"]
TOTAL, HEAD_ROOM = 16 * GIB, GIB


def room(used: int, *, daemon: int = 0, taken: int = 0, engine: str = "vllm", said: int | None = None) -> Device:
    """Return what is there when so much of the memory is used, of which the daemon has so much, and models too."""
    devices = [Device("memory", said, whole=True)]
    (found,) = rooms(devices, Memory(TOTAL, TOTAL - used), HEAD_ROOM, engine, taken=taken, daemon=daemon)
    return found


@pytest.mark.parametrize("daemon", [0, 20 << 20, KEEPS])
def test_it_is_the_same_before_the_daemon_starts_while_it_does_and_when_models_are_there(daemon: int) -> None:
    rest = TOTAL - HEAD_ROOM - KEEPS
    assert room(daemon, daemon=daemon) == Device("memory", rest, rest, whole=True)
    assert room(daemon + 5 * GIB, daemon=daemon, taken=5 * GIB) == Device("memory", rest, rest, whole=True)


def test_a_daemon_that_keeps_more_than_is_usual_has_that() -> None:
    found = room(2 * GIB, daemon=2 * GIB)
    assert found.budget == found.most == TOTAL - HEAD_ROOM - 2 * GIB
    found = room(GIB, daemon=GIB, engine="echo")
    assert found.budget == found.most == TOTAL - HEAD_ROOM - GIB


def test_what_others_hold_may_come_back_and_what_the_daemon_holds_does_not() -> None:
    found = room(6 * GIB + KEEPS, daemon=KEEPS)
    assert (found.budget, found.most) == (9 * GIB - KEEPS, 15 * GIB - KEEPS)
    policy = CheapestBack()
    assert policy.decide("a", Terms(9 * GIB - KEEPS), [], found) == Fits()
    for need in (9 * GIB - KEEPS + 1, 15 * GIB - KEEPS):
        decision = policy.decide("a", Terms(need), [], found)
        assert isinstance(decision, Wait) and decision.others
    assert isinstance(policy.decide("a", Terms(15 * GIB - KEEPS + 1), [], found), Never), "nobody will give that back"


def test_what_is_configured_is_for_models_alone() -> None:
    found = room(KEEPS, daemon=KEEPS, said=4 * GIB)
    assert found.budget == found.most == 4 * GIB
    assert room(KEEPS, daemon=KEEPS, said=TOTAL).budget == TOTAL - HEAD_ROOM - KEEPS


def test_devices_that_are_parts_of_a_memory_share_what_is_there() -> None:
    said = load(None).devices
    assert rooms(said, Memory(TOTAL, TOTAL), HEAD_ROOM, "echo")[0].budget == TOTAL - HEAD_ROOM
    parts = [Device("memory 0", 12 * GIB), Device("memory 1", 4 * GIB)]
    found = rooms(parts, Memory(TOTAL, TOTAL // 2), 0, "echo")
    assert [(one.budget, one.most) for one in found] == [(6 * GIB, 12 * GIB), (2 * GIB, 4 * GIB)]
