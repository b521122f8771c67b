"""What could be done by somebody who knows of a trace what no policy can know: the future, or all of it but chance."""

from functools import cache
from itertools import combinations
from typing import Any

from bench.traces import Trace

Held = frozenset[str]


class Rooms:
    """Which sets of models can be held together, and what can be kept when another one comes."""

    def __init__(self, needs: dict[str, int], budget: int) -> None:
        """Find all sets of models with these needs."""
        some = (frozenset(some) for count in range(len(needs) + 1) for some in combinations(needs, count))
        self.fitting = [one for one in some if sum(needs[name] for name in one) <= budget]
        self._after: dict[tuple[Held, str], list[Held]] = {}

    def after(self, held: Held, name: str) -> list[Held]:
        """Return the largest sets that can be held beside a model that comes."""
        found = self._after.get((held, name))
        if found is None:
            allowed = [one for one in self.fitting if name in one and one - {name} <= held]
            found = self._after[held, name] = [one for one in allowed if not any(one < other for other in allowed)]
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
    ahead: dict[Held, float] = {}
    odds: dict[str, float] = {}
    for (_, name), now_odds in zip(trace.requests, trace.odds, strict=True):
        if now_odds is not odds:
            odds, ahead = now_odds, _ahead(trace, room, now_odds)
        if name not in held:
            held = min(room.after(held, name), key=ahead.__getitem__)
            seconds += trace.models[name].reload_s
    return seconds


def _ahead(trace: Trace, room: Rooms, odds: dict[str, float]) -> dict[Held, float]:
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


def least(trace: Trace) -> float:
    """Return the fewest seconds of reloading with which the trace can be served, by somebody who knows it."""
    models, room = trace.models, rooms_of(trace)
    costs = {Held(): 0.0}
    for _, name in trace.requests:
        new: dict[Held, float] = {}
        for held, cost in costs.items():
            nexts = [held] if name in held else room.after(held, name)
            paid = cost if name in held else cost + models[name].reload_s
            for one in nexts:
                if paid < new.get(one, float("inf")):
                    new[one] = paid
        best = min(new.values())
        whole = sum(model.reload_s for model in models.values())
        costs = {held: cost for held, cost in new.items() if cost <= best + whole}  # loading all is as good
    return min(costs.values())
