"""What a worker says that it takes: when that is news, and when its largest batch is in it."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass

import pytest
from ingled import link
from ingled.worker import group
from ingled.worker.engine import Load
from ingled.worker.footprint import CHANGED, FULL, Footprint
from ingled.worker.group import Sizes

MIB = 1 << 20
INFO = link.Info("echo", 4096, max_running=4, batch_tokens=1000)
FILLED = Load(crowd=4, batch=int(1000 * FULL))


def loaded(footprint: Footprint, taken: int = 0) -> int:
    """Let its model be ready, and serve."""
    found = asyncio.run(footprint.loaded(taken))
    footprint.serves()
    return found


def looks(footprint: Footprint, *, anew: bool = False) -> bool:
    """Let it look; returns whether there is news."""
    return asyncio.run(footprint.look(anew=anew))


@dataclass
class Measured:
    """Stands for the kernel: says `now`, and counts how often it was asked to look at all pages."""

    now: Sizes
    anew: int = 0

    def read(self, *, anew: bool = False) -> Sizes:
        """Return what is there."""
        self.anew += anew
        return self.now


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Return what the footprints of this test see."""
    found = Measured(Sizes(90 * MIB, 60 * MIB, 60 * MIB))
    monkeypatch.setattr(group, "Gauge", lambda taken: found)
    return found


def test_until_the_model_is_ready_nothing_is_news(kernel: Measured) -> None:
    footprint = Footprint()
    assert not looks(footprint) and footprint.taken == 0
    assert footprint.memory == 90 * MIB, "which is told all the same, as its part of what is shared"
    assert loaded(footprint) == 60 * MIB == footprint.taken
    assert not footprint.on_device and not looks(footprint)


def test_what_its_own_largest_batch_took_is_told_once_it_serves(kernel: Measured) -> None:
    footprint = Footprint()
    asyncio.run(footprint.loaded(0))
    kernel.now = Sizes(95 * MIB, 61 * MIB, 80 * MIB)
    assert not looks(footprint), "nobody knows it yet"
    footprint.serves()
    assert looks(footprint) and (footprint.taken, footprint.most, footprint.full) == (61 * MIB, 80 * MIB, False)


def test_what_it_has_now_and_what_it_had_at_most_are_told_apart(kernel: Measured) -> None:
    footprint = Footprint()
    loaded(footprint)
    kernel.now = Sizes(95 * MIB, 60 * MIB, 70 * MIB)
    assert looks(footprint) and (footprint.taken, footprint.most) == (60 * MIB, 70 * MIB), "a peak that has passed"
    kernel.now = Sizes(80 * MIB, 50 * MIB, 50 * MIB)
    assert looks(footprint) and (footprint.taken, footprint.most) == (50 * MIB, 70 * MIB)
    assert footprint.memory == 80 * MIB
    hardly = int(50 * MIB * CHANGED)
    for now, most in ((50 * MIB - hardly, 0), (50 * MIB + hardly, 0), (50 * MIB, int(70 * MIB * (1 + CHANGED)))):
        kernel.now = Sizes(80 * MIB, now, most)
        assert not looks(footprint), "hardly more, or less, is no news"


def test_memory_of_a_device_is_what_the_driver_says(kernel: Measured) -> None:
    footprint = Footprint()
    assert loaded(footprint, 500 * MIB) == 500 * MIB and footprint.on_device
    kernel.now = Sizes(900 * MIB, 800 * MIB, 800 * MIB)
    assert not looks(footprint) and footprint.taken == 500 * MIB
    footprint.took(600 * MIB)
    footprint.took(400 * MIB)
    assert (footprint.taken, footprint.most) == (400 * MIB, 600 * MIB)


@pytest.mark.parametrize(
    ("load", "info"),
    [
        (Load(crowd=3, batch=5000, prompt_tokens=90_000), INFO),
        (Load(crowd=4, batch=int(1000 * FULL) - 1, prompt_tokens=90_000), INFO),
        (Load(crowd=4, batch=5000), link.Info("echo", 4096, max_running=4)),
        (Load(crowd=4, batch=5000), link.Info("echo", 4096, batch_tokens=1000)),
    ],
    ids=["never so many at once", "many short prompts", "no batch is known", "no places are known"],
)
def test_what_was_no_largest_batch_is_not_taken_for_one(load: Load, info: link.Info, kernel: Measured) -> None:
    footprint = Footprint()
    loaded(footprint)
    footprint.runs(load, info)
    assert not looks(footprint) and not footprint.full and kernel.anew == 0


def test_once_the_largest_batch_has_run_it_is_measured_and_told_once(kernel: Measured) -> None:
    footprint = Footprint()
    loaded(footprint)
    footprint.runs(FILLED, INFO)
    early = footprint.full
    assert looks(footprint) and (early, footprint.full) == (False, True), "not before it is measured"
    assert kernel.anew == 1
    assert footprint.most == 60 * MIB, "it took no more"
    footprint.runs(FILLED, INFO)
    assert not looks(footprint) and kernel.anew == 1


def test_before_it_ends_it_looks_at_all_pages(kernel: Measured) -> None:
    footprint = Footprint()
    loaded(footprint)
    looks(footprint, anew=True)
    assert kernel.anew == 1


PEAK = """
import asyncio, mmap, os
from ingled.worker.footprint import Footprint

os.setsid()
footprint = Footprint()
taken = asyncio.run(footprint.loaded(0))
footprint.serves()
with mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE) as pages:
    for at in range(0, len(pages), 4096):
        pages[at] = 1
news = asyncio.run(footprint.look())
print(int(news), footprint.most - taken, footprint.taken - taken)
"""


def test_the_kernel_tells_of_a_peak_though_it_has_passed() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=60, check=True)
    news, grown, left = map(int, done.stdout.split())
    assert news and 60 * MIB <= grown <= 80 * MIB and left < 10 * MIB


def test_the_memory_of_gpus_is_news_when_much_of_it_came_or_went() -> None:
    footprint = Footprint()
    one = link.Gpu("GPU", 1000 * MIB, 500 * MIB)
    assert footprint.is_news([one]) and not footprint.is_news([one])
    assert not footprint.is_news([link.Gpu("GPU", 1000 * MIB, 497 * MIB)])
    assert footprint.is_news([link.Gpu("GPU", 1000 * MIB, 490 * MIB)])
    assert footprint.is_news([one, one]), "another one is there"
