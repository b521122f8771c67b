"""Which deaths the kernel explains: those that it has caused in a worker's own group, each once, not long before."""

from pathlib import Path

from ingled.broker.shortages import LOOKS, Shortages, Tally

OURS, ALONE, OTHERS = Path("/ours"), Path("/alone"), Path("/others")


class Kernel:
    """Counts by group the processes that it has ended for want of memory."""

    def __init__(self) -> None:
        self.groups = {1: OURS, 2: OURS, 3: ALONE}
        self.ended = {OURS: 7, ALONE: 0, OTHERS: 40}

    def shortages(self) -> Shortages:
        """Return what its counts say of three workers."""
        found = Shortages(self.groups.__getitem__, self.ended.__getitem__)
        for pid in self.groups:
            found.watch(pid)
        return found


def test_each_end_explains_one_death() -> None:
    kernel = Kernel()
    shortages = kernel.shortages()
    assert not shortages.explain(1), "what was before the daemon was"
    kernel.ended[OURS] += 2
    assert [shortages.explain(1), shortages.explain(2), shortages.explain(2)] == [True, True, False]


def test_who_was_ended_elsewhere_explains_none_here() -> None:
    kernel = Kernel()
    shortages = kernel.shortages()
    kernel.ended[OTHERS] += 1
    assert not any(map(shortages.explain, kernel.groups))
    kernel.ended[OURS] += 1
    assert not shortages.explain(3), "it has a group of its own"
    assert shortages.explain(2)


def test_whom_the_daemon_ends_itself_nothing_else_has_ended() -> None:
    kernel = Kernel()
    shortages = kernel.shortages()
    shortages.ending(1)
    kernel.ended[OURS] += 1
    assert not shortages.explain(1)
    assert shortages.explain(2), "its death may be the one"
    shortages.forget(1)
    shortages.ending(1)
    shortages.watch(1)
    kernel.ended[OURS] += 1
    assert shortages.explain(1), "another process has its number by now"


def test_of_who_is_not_known_nothing_is_said() -> None:
    kernel = Kernel()
    shortages = kernel.shortages()
    kernel.ended |= dict.fromkeys(kernel.ended, 100)
    assert not shortages.explain(4)
    for pid in kernel.groups:
        shortages.forget(pid)
    shortages.look()
    assert not any(map(shortages.explain, kernel.groups))


def test_a_group_is_counted_from_when_the_first_of_its_workers_begins() -> None:
    kernel = Kernel()
    shortages = kernel.shortages()
    shortages.forget(3)
    kernel.ended[ALONE] += 1
    shortages.watch(3)
    assert not shortages.explain(3)
    kernel.ended[ALONE] += 1
    shortages.watch(3)
    assert shortages.explain(3)


def test_it_is_remembered_for_some_looks() -> None:
    kernel = Kernel()
    shortages = kernel.shortages()
    kernel.ended[OURS] += 1
    for _ in range(LOOKS):
        shortages.look()
    assert shortages.explain(1) and not shortages.explain(1)


def test_what_nobody_died_of_is_forgotten() -> None:
    ended = [7]
    tally = Tally(lambda: ended[0])
    ended[0] += 1
    for _ in range(LOOKS + 1):
        tally.look()
    assert not tally.explain()
    ended[0] += 1
    tally.look()
    assert tally.explain()
