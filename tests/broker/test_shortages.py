"""Which deaths the kernel explains: those that it has caused, each once, and not long before."""

from ingled.broker.shortages import LOOKS, Shortages


class Kernel:
    """Counts the processes that it has ended for want of memory."""

    ended = 7

    def __call__(self) -> int:
        return self.ended


def test_each_end_explains_one_death() -> None:
    kernel = Kernel()
    shortages = Shortages(kernel)
    assert not shortages.explain(), "what was before the daemon was"
    kernel.ended += 2
    assert [shortages.explain() for _ in range(3)] == [True, True, False]


def test_it_is_remembered_for_some_looks() -> None:
    kernel = Kernel()
    shortages = Shortages(kernel)
    kernel.ended += 1
    for _ in range(LOOKS):
        shortages.look()
    assert shortages.explain() and not shortages.explain()


def test_what_nobody_died_of_is_forgotten() -> None:
    kernel = Kernel()
    shortages = Shortages(kernel)
    kernel.ended += 1
    for _ in range(LOOKS + 1):
        shortages.look()
    assert not shortages.explain()
    kernel.ended += 1
    shortages.look()
    assert shortages.explain()
