"""Policies for the daemon's own core that know what no policy can know: how much room is left for one that does not.

Where requests may wait no least is known, so these stand in for it. Each chooses, among the models that may go, those
without which what is to come costs least, and waits for a better victim that is busy, as long as the daemon's policy.
"""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ingled.core.eviction import LEAST_S, LINGER_S, CheapestBack, every_set
from ingled.core.placement import AT_ONCE, Absent, Decision, Device, Outlook, Resident, Sharing, Terms, Wait, held

from bench.foresight import Held, ahead, rooms_of
from bench.traces import Trace
from bench.virtual_time import World

Cost = Callable[[Held], float]


def popular(trace: Trace, times: Sequence[float], now: float) -> dict[str, float]:
    """Return how popular models are by now."""
    return trace.odds[min(len(times) - 1, bisect_right(times, now))]


class Clairvoyant(Sharing):
    """Evicts those without which what comes costs least, as it is known to it."""

    def __init__(self, trace: Trace) -> None:
        """Know a trace."""
        self.trace, self.times = trace, [one.at for one in trace.requests]
        self.world: World | None = None
        """Where it decides: it looks at the clock there, and at who waits."""
        self._asked = ""

    @abstractmethod
    def costs(self, world: World, name: str) -> Cost:
        """Return what comes costs from each set of models on, when this one has been loaded."""

    def decide(
        self, name: str, terms: Terms, residents: Sequence[Resident], device: Device, outlook: Outlook = AT_ONCE
    ) -> Decision:
        """Remember for whom."""
        self._asked = name
        return super().decide(name, terms, residents, device, outlook)

    def victims(
        self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook
    ) -> Sequence[Resident] | Wait:
        """Compare all sets."""
        assert self.world is not None
        costs, here = self.costs(self.world, self._asked), {one.name for one in there if not one.leaving}

        def cost(gone: Sequence[Resident]) -> float:
            return costs(frozenset(here - {one.name for one in gone} | {self._asked}))

        free = [one for one in there if not held(one)]
        soon = [one for one in there if one in free or (one.busy and not one.pinned and not one.leaving)]
        best, better = min(every_set(free, excess), key=cost), min(every_set(soon, excess), key=cost)
        busy = tuple(one.name for one in better if held(one))
        left = min(LINGER_S, cost(best) - cost(better)) - outlook.waited
        return Wait(f"busy: {', '.join(busy)}", left, busy) if busy and left >= LEAST_S else best


class ToldPopularities(CheapestBack):
    """Ours, that need not learn how often models are asked: for any number of models."""

    def __init__(self, trace: Trace) -> None:
        """Know a trace."""
        self.trace, self.times = trace, [one.at for one in trace.requests]
        self.world: World | None = None
        """Where it decides: it looks at the clock there."""

    def decide(
        self, name: str, terms: Terms, residents: Sequence[Resident], device: Device, outlook: Outlook = AT_ONCE
    ) -> Decision:
        """Decide with what it knows instead of what was learned."""
        assert self.world is not None
        odds = popular(self.trace, self.times, self.world.now)
        here = {one.name for one in residents}
        away = [one for one in self.trace.models if one != name and one not in here]
        told = [replace(one, popularity=odds[one.name]) for one in residents]
        absent = tuple(Absent(self.trace.models[one], odds[one]) for one in away)
        return super().decide(name, terms, told, device, replace(outlook, popularity=odds[name], absent=lambda: absent))


class KnowsPopularities(Clairvoyant):
    """Knows of each model how popular it is at any time, to the digit, and not who is asked next."""

    def __init__(self, trace: Trace) -> None:
        """Know a trace."""
        super().__init__(trace)
        self._known: tuple[dict[str, float], dict[Held, float]] = ({}, {})

    def costs(self, world: World, name: str) -> Cost:
        """Return what is to be expected in the long run."""
        odds = popular(self.trace, self.times, world.now)
        if odds is not self._known[0]:
            self._known = (odds, ahead(self.trace, rooms_of(self.trace), odds))
        return self._known[1].__getitem__


class KnowsFuture(Clairvoyant):
    """Knows who is asked when; only how long answers take it does not know."""

    def __init__(self, trace: Trace) -> None:
        """Know a trace: what each set costs from each request on, from the last one backwards."""
        import numpy

        super().__init__(trace)
        room = rooms_of(trace)
        self._index = {one: at for at, one in enumerate(room.fitting)}
        self._steps: dict[str, tuple[Any, Any]] = {}
        for name, terms in trace.models.items():
            nexts = [[self._index[to] for to in room.after(one, name)] for one in room.fitting]
            most = max(map(len, nexts))
            paid = numpy.array([0.0 if name in one else terms.reload_s for one in room.fitting])
            self._steps[name] = paid, numpy.array([some + some[:1] * (most - len(some)) for some in nexts])
        self._from = [numpy.zeros(len(room.fitting))]
        for one in reversed(trace.requests):
            self._from.append(self._before(one.model, self._from[-1]))
        self._from.reverse()

    def _before(self, name: str, costs: Any) -> Any:
        paid, choices = self._steps[name]
        return paid + costs[choices].min(axis=1)

    def costs(self, world: World, name: str) -> Cost:
        """Return what those cost who wait and those who will come, if loads took no time."""
        found = self._from[bisect_right(self.times, world.now)]
        for one in reversed(world.core.residents.wanted):
            if one != name:
                found = self._before(one, found)
        return lambda some: float(found[self._index[some]])
