"""Nobody waits for ever: whoever asks, and however often, each model that is waited for comes within a bound.

The core decides in virtual time (`bench/virtual_time.py`), and the streams of requests are such that models are busy
for as long as they are let.
"""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from ingled.core.placement import Device, Terms

from bench.traces import Asked
from bench.virtual_time import World

PATIENCE_S = 5.0
LONGEST_S, LOAD_S, FRESH_S = 4.0, 3.0, 3.0
"""At most: an answer, a load, and for how long a model stays at least."""


@dataclass(frozen=True)
class Stream:
    """A model is asked again and again."""

    model: str
    first: float
    pause: float
    seconds: float
    """Of each answer: where that is more than the pause, it is busy without end."""


class Watched(World):
    """Sees for how long models are waited for and nobody is given to them."""

    longest = 0.0

    def replayed(self, streams: list[Stream], until: float) -> None:
        """Let all requests of these streams come."""
        times = [(one, one.first + i * one.pause) for one in streams for i in range(int(until / one.pause))]
        asked = sorted((Asked(at, one.model, one.seconds) for one, at in times), key=lambda one: one.at)
        self._coming = {name: [one.at for one in reversed(asked) if one.model == name] for name in self.core.models}
        self._served = dict.fromkeys(self.core.models, 0.0)
        self.replay(asked)

    def waits_no_longer(self, now: float, asked: Asked) -> None:
        """Of a model that has been waited for since its oldest request, or since it was given one."""
        coming = self._coming[asked.model]
        coming.remove(asked.at)
        self.longest = max(self.longest, now - max(asked.at, self._served[asked.model]))
        self._served[asked.model] = now


def bound(models: int) -> float:
    """Return the seconds after which a model that is waited for is there.

    It has patience, and then nobody passes it by. Of those before it, and for it, the busy ones end, the fresh ones
    get old enough, and it is loaded. And it may have been there before, closed for others who had waited as long.
    """
    return PATIENCE_S + 2 * models * (LONGEST_S + FRESH_S + LOAD_S)


def test_a_large_model_is_not_passed_by_for_ever_by_small_ones_that_take_turns() -> None:
    """Two of the small ones are always there and busy: they have to be idle at the same time."""
    terms = {"large": Terms(100, LOAD_S)} | {name: Terms(40, LOAD_S) for name in "abcdef"}
    for pause in (3.0, 6.0, 12.0, 18.0):
        small = [Stream(name, i * pause / 6, pause, LONGEST_S) for i, name in enumerate("abcdef")]
        world = Watched(terms, 100, patience_s=PATIENCE_S)
        world.replayed([*small, Stream("large", 20.0, 200.0, 1.0)], 400.0)
        assert world.longest <= bound(len(terms))


def test_of_two_gpus_one_becomes_free_for_who_has_waited_long_enough() -> None:
    terms = {"wide": Terms(200, LOAD_S, devices=2)} | {name: Terms(60, LOAD_S) for name in "abcd"}
    streams = [Stream(name, i * 0.9, 3.6, LONGEST_S) for i, name in enumerate("abcd")]
    world = Watched(terms, 100, patience_s=PATIENCE_S)
    world.core.residents.devices = [Device("gpu0", 100), Device("gpu1", 100)]
    world.replayed([*streams, Stream("wide", 10.0, 100.0, 1.0)], 300.0)
    assert world.longest <= bound(len(terms))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, Terms], set[str], int, list[Stream]]:
    """Draw models, which of them are pinned, devices of 100 bytes, and streams."""
    names = "abcdefg"[: draw(st.integers(2, 7))]
    devices = draw(st.sampled_from([1, 1, 2]))
    made = st.builds(
        Terms,
        need=st.sampled_from([20, 30, 40, 60, 100]),
        reload_s=st.sampled_from([0.5, LOAD_S]),
        weight=st.sampled_from([0.25, 1.0, 8.0]),
        min_resident=st.sampled_from([0.0, 0.0, FRESH_S]),
        group=st.sampled_from([None, None, "g"]),
        exclusive=st.sampled_from([False, False, False, True]),
        devices=st.integers(1, devices),
    )
    terms = {name: draw(made) for name in names}
    pinned = {name for name in names if draw(st.integers(0, 5)) == 5}
    streams = st.builds(
        Stream,
        model=st.sampled_from(names),
        first=st.floats(0, 20),
        pause=st.sampled_from([1.5, 2.5, 3.5, 10.0, 50.0]),
        seconds=st.sampled_from([0.1, 1.0, LONGEST_S]),
    )
    return terms, pinned, devices, draw(st.lists(streams, min_size=2, max_size=9))


@settings(max_examples=100)
@given(worlds())
def test_whatever_is_asked_each_model_that_is_waited_for_comes_within_a_bound(
    drawn: tuple[dict[str, Terms], set[str], int, list[Stream]],
) -> None:
    """With pins, weights, groups, exclusive ones, ones that stay for a while, and on two devices."""
    terms, pinned, devices, streams = drawn
    world = Watched(terms, 100, patience_s=PATIENCE_S)
    world.core.residents.devices = [Device(f"gpu{index}", 100) for index in range(devices)]
    for name in pinned:
        world.core.models[name].pinned = True
    world.replayed(streams, 250.0)
    assert world.longest <= bound(len(terms))
