"""Which models go when another one needs room: those that it costs least to have gone. Pure."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import combinations

from ingled.core.placement import Absent, Outlook, Resident, Sharing, Terms, Wait, held

EXACT = 8
"""Up to so many candidates, sets of victims are compared; of more, the best one by one."""
COMPARED = 8
"""So many sets, those that cost least, are looked at one request further."""
LASTS = 4
"""For so many requests what the next one leaves behind is taken to last."""
LINGER_S = 20.0
"""Seconds at most that somebody waits for a busy model to end, though an idle one could go at once."""

LEAST_S = 0.1
"""A wait for less is none."""


class CheapestBack(Sharing):
    """Evicts those that it costs least to have gone: seconds of their load, times how often they are asked.

    How often counts for more than how long ago. Sets of victims are compared by what the next request will bring: a
    large model that is asked soon puts out others in its turn. And where a busy model would be the better victim, it is
    waited for, but no longer than those would load that stay instead. (bench/residency.py has the figures.)
    """

    def victims(
        self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook
    ) -> Sequence[Resident] | Wait:
        """Take as few as are needed, and those that cost least."""
        free = [one for one in there if not held(one)]
        soon = [one for one in there if one in free or (one.busy and not one.pinned and not one.leaving)]
        best = _best(terms, there, free, excess, outlook)
        if outlook.waited >= LINGER_S or len(soon) == len(free):  # nobody to wait for, or for too long already
            return best
        better = _best(terms, there, soon, excess, outlook)
        busy = [one for one in better if held(one)]
        spared = sum(one.terms.reload_s for one in best if one not in better)
        left = min(LINGER_S, spared) - outlook.waited
        if not busy or left < LEAST_S:
            return best
        words = " and ".join(f"'{one.name}' is busy" for one in busy)
        return Wait(f"model {words}", left, tuple(one.name for one in busy))


def cost(one: Resident) -> float:
    """Return the seconds of loading that it costs a request to have it gone; of two never asked, the older goes."""
    return _cost(one.terms, one.popularity + 1e-9 / (1 + one.idle))


def _cost(terms: Terms, popularity: float) -> float:
    return terms.reload_s * terms.weight * popularity


def _best(
    terms: Terms, there: Sequence[Resident], some: Sequence[Resident], excess: int, outlook: Outlook
) -> Sequence[Resident]:
    """Return those of some models that together give enough memory back at the least cost."""
    if len(some) > EXACT:
        return _one_by_one(some, excess)
    sets = sorted(every_set(some, excess), key=lambda one: sum(map(cost, one)))[:COMPARED]
    if len(sets) == 1:
        return sets[0]
    absent = outlook.absent()
    return min(sets, key=lambda gone: _after(terms, there, gone, excess, outlook.popularity, absent))


def _one_by_one(some: Sequence[Resident], excess: int) -> list[Resident]:
    chosen = []
    for one in sorted(some, key=lambda one: cost(one) / max(1, one.terms.need)):
        if excess > 0:
            chosen.append(one)
            excess -= one.terms.need
    return chosen


def every_set(some: Sequence[Resident], excess: int) -> Iterator[tuple[Resident, ...]]:
    """Yield all sets that give `excess` bytes back, of which no model could stay."""
    for count in range(1, len(some) + 1):
        for one in combinations(some, count):
            spare = sum(each.terms.need for each in one) - excess
            if spare >= 0 and all(each.terms.need > spare for each in one):
                yield one


def _after(
    terms: Terms,
    there: Sequence[Resident],
    gone: Sequence[Resident],
    excess: int,
    popularity: float,
    absent: Sequence[Absent],
) -> float:
    """Return what it costs that these are gone, at the next request and, as is to be expected, after it.

    If that is for a model that is not there, it comes, and others go for it, those that cost least; perhaps the one
    that comes now.
    """
    comes = Resident("", terms, popularity=popularity)
    kept = [one for one in there if one not in gone and not one.leaving] + [comes]
    away = [*absent, *(Absent(one.terms, one.popularity) for one in gone)]
    whole = sum(one.popularity for one in kept) + sum(one.popularity for one in away)
    freed, lost = zip(*_least([one for one in kept if not one.pinned]), strict=True)
    now = sum(map(cost, gone))
    room, then = sum(one.terms.need for one in gone) - excess, now
    for one in away:
        at = bisect_left(freed, one.terms.need - room)
        if one.popularity and at < len(freed):  # else it is not asked, or does not fit
            then += one.popularity / whole * (lost[at] - _cost(one.terms, one.popularity))
    return now + LASTS * then


def _least(kept: Sequence[Resident]) -> list[tuple[int, float]]:
    """Return what can be freed by evicting some of these, and what that costs: more and more for more."""
    found = [(0, 0.0)]
    for one in kept:
        more = [(freed + one.terms.need, lost + cost(one)) for freed, lost in found]
        some, found, most = sorted([*found, *more], key=lambda pair: (pair[1], -pair[0])), [], -1
        for freed, lost in some:
            if freed > most:
                found.append((freed, lost))
                most = freed
    return found
