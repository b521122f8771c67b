"""What models may take of the memory of a machine: now, and at best, if other programs gave theirs back. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from ingled.core.placement import Device
from ingled.machine import Memory

DAEMON_BYTES = {"vllm": 430 << 20}
"""What nursery and broker keep for themselves once the nursery has imported this engine (vLLM 0.32 on a CPU)."""


def rooms(
    said: Sequence[Device], memory: Memory, head_room: int | None, engine: str, *, taken: int = 0, daemon: int = 0
) -> list[Device]:
    """Return the devices that are configured, which share this memory, with what models may have of each.

    Models have `taken` by now, and the daemon's own processes `daemon`: that is not free any more, and what they have
    yet to take will not be. Where less is there than the devices are said to have, each has its part of it.
    """
    keeps = max(daemon, DAEMON_BYTES.get(engine, 0))
    sizes = [device.budget for device in said]
    whole = None if None in sizes else sum(one or 0 for one in sizes)
    now = memory.budget(taken, whole, head_room, coming=keeps - daemon)
    best = memory.most(whole, head_room, daemon=keeps)
    return [replace(device, budget=_part(now, device, whole), most=_part(best, device, whole)) for device in said]


def _part(room: int, device: Device, whole: int | None) -> int:
    return room * (device.budget or 0) // whole if whole else room
