"""What a worker has of the memory, by what it has told."""

from typing import Any, cast

from ingled import link
from ingled.broker.worker import Worker

INFO = link.Info("vllm", 4096, taken_bytes=500)


def worker(**told: Any) -> Worker:
    return Worker("a", 7, cast(Any, None), **told)


def stats(taken: int, most: int) -> link.Stats:
    return link.Stats(0, 0, 0.0, 0, 0, 0, taken_bytes=taken, most_bytes=most)


def test_until_it_is_ready_nothing_is_known() -> None:
    assert (worker().taken, worker().most) == (None, None)
    assert (worker(stats=stats(9, 9)).taken, worker(stats=stats(9, 9)).most) == (None, None)


def test_a_peak_that_has_passed_is_not_there_any_more() -> None:
    one = worker(info=INFO)
    assert (one.taken, one.most) == (500, 500)
    one.stats = stats(520, 800)
    assert (one.taken, one.most) == (520, 800)
    one.stats = stats(450, 800)
    assert (one.taken, one.most) == (450, 800)
    one.stats = stats(0, 0)
    assert (one.taken, one.most) == (500, 500), "it has not measured again"


def test_asleep_it_has_what_it_keeps() -> None:
    one = worker(info=INFO, stats=stats(520, 800), asleep=link.Asleep(INFO, 1, 30, 490, 0.1))
    assert (one.taken, one.most) == (30, 800)


def test_who_measures_nothing_has_nothing_to_tell() -> None:
    one = worker(info=link.Info("echo", 4096))
    assert (one.taken, one.most) == (None, None)
