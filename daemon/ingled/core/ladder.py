"""How far down a model goes when it gives its memory back: asleep, light or deep, or out. Pure.

At level 1 the weights wait in the memory of the machine, at level 2 they are read again from their files; the engine's
process lives on either way, and keeps a little of the device. Out, nothing is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

LIGHT, DEEP = 1, 2
"""Levels, as vLLM counts them."""
EXPECTED_S = 7200.0
"""A model whose next use is expected later than this goes out: asleep, it would hold its processes for nothing."""
GUESS_S = {LIGHT: 1.0, DEEP: 5.0}
"""Seconds that waking takes, while it has not been measured."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """What is known of how a model sleeps."""

    why_not: str = "its engine has not said yet whether it can"
    """Why it cannot; empty when it can."""
    weights: int = 0
    """Bytes of the machine's memory that it takes at level 1."""
    left: int = 0
    """Bytes of the device that it keeps."""
    wake_s: Mapping[int, float] = field(default_factory=dict)
    """Seconds that it took to wake from a level."""

    @property
    def can(self) -> bool:
        """Return whether it can sleep."""
        return not self.why_not

    def back_s(self, level: int) -> float:
        """Return the seconds that it takes to wake from a level, as measured or guessed."""
        return self.wake_s.get(level, GUESS_S[level])


def deep_enough(sleep: Sleep, host: int | None) -> int:
    """Return the lightest level for which the machine has memory; `host` bytes are free there (None: not known)."""
    return LIGHT if host is not None and sleep.weights <= host else DEEP


def level_for(sleep: Sleep, expected_s: float, host: int | None) -> int:
    """Return the level to which a model goes that can be expected to be asked in so many seconds; 0: it goes out."""
    if not sleep.can or expected_s > EXPECTED_S:
        return 0
    return deep_enough(sleep, host)


def who_may_sleep(left: Mapping[str, int], room: int) -> set[str]:
    """Return those that may keep what they keep asleep, so that no more than `room` bytes are kept together."""
    found = set()
    for name, size in sorted(left.items(), key=lambda one: one[1]):
        if size <= room:
            found.add(name)
            room -= size
    return found
