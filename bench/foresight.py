"""What could be done by somebody who knows of a trace what no policy can know: the future, or all of it but chance."""

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from itertools import combinations
from typing import Any

from bench.traces import Trace

Held = frozenset[str]


class Rooms:
    """Which sets of models can be held together, and what can be kept when another one comes."""

    def __init__(self, needs: dict[str, int], budget: int) -> None:
        """Models have these needs."""
        self._needs, self._budget = needs, budget
        self._after: dict[tuple[Held, str], list[Held]] = {}

    @cached_property
    def fitting(self) -> list[Held]:
        """All sets of models."""
        return list(self._fitting(self._needs, self._budget))

    def _fitting(self, names: Iterable[str], room: int) -> Iterator[Held]:
        for count in range(len(self._needs) + 1):
            some = [one for one in combinations(names, count) if sum(map(self._needs.__getitem__, one)) <= room]
            yield from map(frozenset, some)
            if not some:  # and larger sets need more
                return

    def after(self, held: Held, name: str) -> list[Held]:
        """Return the largest sets that can be held beside a model that comes."""
        found = self._after.get((held, name))
        if found is None:
            beside = list(self._fitting(held - {name}, self._budget - self._needs[name]))
            largest = [one for one in beside if not any(one < other for other in beside)]
            found = self._after[held, name] = [one | {name} for one in largest]
        return found


@cache
def rooms(needs: tuple[tuple[str, int], ...], budget: int) -> Rooms:
    """Return those of models with these needs: the same for all traces."""
    return Rooms(dict(needs), budget)


def rooms_of(trace: Trace) -> Rooms:
    """Return those of a trace."""
    return rooms(tuple((name, terms.need) for name, terms in trace.models.items()), trace.budget)


def knowing(trace: Trace) -> float:
    """Return the seconds of reloading of somebody who knows how popular models are, and does what then is best."""
    room, held, seconds = rooms_of(trace), Held(), 0.0
    costs: dict[Held, float] = {}
    odds: dict[str, float] = {}
    for one, now_odds in zip(trace.requests, trace.odds, strict=True):
        name = one.model
        if now_odds is not odds:
            odds, costs = now_odds, ahead(trace, room, now_odds)
        if name not in held:
            held = min(room.after(held, name), key=costs.__getitem__)
            seconds += trace.models[name].reload_s
    return seconds


def ahead(trace: Trace, room: Rooms, odds: dict[str, float]) -> dict[Held, float]:
    """Return how many more seconds of loading are to be expected from each set on than from an empty one."""
    import numpy

    whole, index = sum(odds.values()), {one: at for at, one in enumerate(room.fitting)}
    missing = [(one, name, odds[name] / whole) for one in room.fitting for name in odds if name not in one]
    nexts = [[index[other] for other in room.after(one, name)] for one, name, _ in missing]
    most = max(map(len, nexts))
    choices = numpy.array([some + some[:1] * (most - len(some)) for some in nexts])
    at, chance = numpy.array([index[one] for one, _, _ in missing]), numpy.array([one[2] for one in missing])
    paid = chance * numpy.array([trace.models[name].reload_s for _, name, _ in missing])
    stays = 1 - numpy.bincount(at, chance, len(index))
    values: Any = numpy.zeros(len(index))
    while True:
        costs = paid + chance * values[choices].min(axis=1)
        found = numpy.bincount(at, costs, len(index)) + stays * values
        found -= found[0]
        if numpy.abs(found - values).max() < 1e-4:
            return dict(zip(room.fitting, found.tolist(), strict=True))
        values = found


Waiting = tuple[tuple[str, float], ...]
"""Models for which somebody waits, and until when at most; the first has waited longest."""
Costs = dict[tuple[Held, Waiting], float]
BETTER = 12
"""So many of the cheapest states are held against the others: what can be had from one of them for less goes."""


def least(trace: Trace, wait: float = 0.0) -> float:
    """Return the fewest seconds of reloading with which the trace can be served, by somebody who knows it.

    `wait`: for so many seconds requests may wait, those of one model together, and loads take no time. Nobody who has
    requests wait for no longer, those for loads included, can do with less.
    """
    costs: Costs = {(Held(), ()): 0.0}
    for one in trace.requests:
        at, name = one.at, one.model
        costs = _served(trace, costs, at)
        new: Costs = {}
        for (held, waiting), cost in costs.items():
            there = name in held or any(model == name for model, _ in waiting)
            _keep(new, (held, waiting if there else (*waiting, (name, at + wait))), cost)
        costs = _pruned(trace, new)
    return min(_served(trace, costs, float("inf")).values())


def _served(trace: Trace, costs: Costs, until: float) -> Costs:
    """Return the states in which nobody has waited too long by then: nothing is loaded before it has to be."""
    while (due := min((waiting[0][1] for _, waiting in costs if waiting), default=until)) < until:
        new: Costs = {}
        for (held, waiting), cost in costs.items():
            if waiting and waiting[0][1] == due:
                for state, paid in _loads(trace, held, waiting, cost):
                    _keep(new, state, paid)
            else:
                _keep(new, (held, waiting), cost)
        costs = _pruned(trace, new)
    return costs


def _loads(trace: Trace, held: Held, waiting: Waiting, cost: float) -> Iterator[tuple[tuple[Held, Waiting], float]]:
    """Yield what there may be when the first who waits has been served, and before it some of the others."""
    for name, _ in waiting:
        left, paid = tuple(one for one in waiting if one[0] != name), cost + trace.models[name].reload_s
        for after in rooms_of(trace).after(held, name):
            if name == waiting[0][0]:
                yield (after, left), paid
            else:
                yield from _loads(trace, after, left, paid)


def _keep(costs: Costs, state: tuple[Held, Waiting], cost: float) -> None:
    if cost < costs.get(state, float("inf")):
        costs[state] = cost


def _pruned(trace: Trace, costs: Costs) -> Costs:
    """Leave out what costs no less than another state, where nobody else waits, and the loads missing there."""
    kept: Costs = {}
    best: list[tuple[Held, frozenset[tuple[str, float]], float]] = []
    for (held, waiting), cost in sorted(costs.items(), key=lambda one: one[1]):
        waits = frozenset(waiting)
        if not any(
            few <= waits and less + sum(trace.models[name].reload_s for name in held - had) <= cost
            for had, few, less in best
        ):
            kept[held, waiting] = cost
            if len(best) < BETTER:
                best.append((held, waits, cost))
    return kept
