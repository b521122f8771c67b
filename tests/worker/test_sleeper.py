"""What an engine says of its sleep is believed when it has been seen: memory back, and the same answer afterwards."""

import asyncio
from dataclasses import dataclass, field

import pytest
from ingled.worker.engine import SleepError, Slept
from ingled.worker.sleeper import DeviceMemory, Sleeper

MIB = 1 << 20


@dataclass
class Played:
    """Implements `Bed`."""

    own: bool = True
    """The driver tells what the engine has."""
    keeps: int = 100 * MIB
    answers: list[list[int]] = field(default_factory=lambda: [[1, 2, 3]])
    fails: str = ""
    asleep: int = 0
    done: list[str] = field(default_factory=list)

    async def device_memory(self) -> DeviceMemory:
        now = self.keeps if self.asleep else 1000 * MIB
        return DeviceMemory(now if self.own else None, 5000 * MIB - now)

    async def sample(self) -> list[int]:
        self.done.append("sample")
        return self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)

    async def suspend(self, level: int) -> None:
        self.done.append(f"suspend {level}")
        if self.fails == "suspend":
            raise AssertionError("Memory usage increased\nafter sleeping.")
        self.asleep = level

    async def resume(self, level: int) -> None:
        self.done.append(f"resume {level}")
        if self.fails == "resume":
            raise MemoryError
        self.asleep = 0


def sleeper(bed: Played) -> Sleeper:
    return Sleeper(bed, 800 * MIB, 1000 * MIB)


def cycle(bed: Played, level: int = 1) -> tuple[Slept, int]:
    async def both() -> tuple[Slept, int]:
        one = sleeper(bed)
        return await one.sleep(level), await one.wake()

    return asyncio.run(both())


@pytest.mark.parametrize("own", [True, False])
def test_memory_comes_back_and_the_answer_stays(own: bool) -> None:
    bed = Played(own=own)
    assert cycle(bed, 2) == (Slept(100 * MIB, 900 * MIB), 1000 * MIB)
    assert bed.done == ["sample", "suspend 2", "resume 2", "sample"]


def test_the_answer_before_the_first_sleep_counts_for_ever() -> None:
    async def slowly_forgets() -> None:
        one = sleeper(Played(answers=[[1], [1], [2]]))
        for _ in range(2):
            await one.sleep(1)
            await one.wake()

    with pytest.raises(SleepError, match="awake from level 1 it answered the same prompt differently than before"):
        asyncio.run(slowly_forgets())


@pytest.mark.parametrize("own", [True, False])
def test_what_gives_too_little_back_is_found_out(own: bool) -> None:
    with pytest.raises(SleepError, match="asleep at level 1 it gave back 700 MiB of 800 MiB"):
        cycle(Played(own=own, keeps=300 * MIB))
    with pytest.raises(SleepError, match="it gave back 0 MiB of 800 MiB"):
        cycle(Played(own=own, keeps=1000 * MIB))


def test_an_engine_that_holds_nothing_cannot_have_given_anything_back() -> None:
    with pytest.raises(SleepError, match="0 MiB of 0 MiB"):
        asyncio.run(Sleeper(Played(keeps=1000 * MIB), 0, 0).sleep(1))


def test_what_raises_is_told_in_its_words() -> None:
    with pytest.raises(SleepError, match="could not sleep at level 1: Memory usage increased after sleeping"):
        cycle(Played(fails="suspend"))
    with pytest.raises(SleepError, match="could not wake from level 2: MemoryError"):
        cycle(Played(fails="resume"), 2)


def test_a_look_compares_with_the_first_answer_and_moves_nothing() -> None:
    async def look(bed: Played) -> list[str]:
        one = sleeper(bed)
        for _ in range(2):
            await one.check()
        return bed.done

    assert asyncio.run(look(Played())) == ["sample", "sample"]
    with pytest.raises(SleepError, match="it answered the same prompt differently than before"):
        asyncio.run(look(Played(answers=[[1], [2], [2]])))
