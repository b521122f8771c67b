"""Models on several devices: to which of them a model goes, and who goes for it there. Pure.

A policy (`placement`) decides for one device. Here it is asked for each device of every set of the right size, with the
shares that models have there, and the sets are compared: one where there is room, before one where somebody has to go.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf

from ingled.core.eviction import cost
from ingled.core.placement import (
    AT_ONCE,
    Decision,
    Device,
    Evict,
    Fits,
    Never,
    Outlook,
    Policy,
    Resident,
    Terms,
    Wait,
)

ORDER = (Fits, Evict, Wait, Never)
"""What is better comes first."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What has to happen for a model to be loaded, and on which devices."""

    decision: Decision
    on: tuple[int, ...]
    """Indices of devices."""


def place(
    policy: Policy,
    name: str,
    terms: Terms,
    residents: Sequence[Resident],
    devices: Sequence[Device],
    only: tuple[int, ...] | None = None,
    outlook: Outlook = AT_ONCE,
) -> Placed:
    """Choose the devices of a model, of which it takes equal shares, and say what has to happen there first.

    `only`: it cannot be on others.
    """
    if only is not None:
        spread = replace(terms, devices=len(only))
        return Placed(_decide(policy, name, spread, residents, devices, only, outlook), only)
    if len(devices) == 1 and devices[0].whole:
        terms = replace(terms, devices=1)
    if terms.devices > len(devices):
        count = len(devices)
        text = f"model '{name}' is to be spread over {terms.devices} devices, and there {'is' if count == 1 else 'are'}"
        return Placed(Never(f"{text} {count}", "lower its tensor_parallel"), ())
    best: tuple[tuple[float, ...], Placed] | None = None
    seen: set[tuple[object, ...]] = set()
    for on in combinations(range(len(devices)), terms.devices):
        alike = tuple(sorted((_load(index, residents, devices) for index in on), key=repr))
        if alike in seen:
            continue  # eight equal devices have seventy sets of four, and most of them are the same
        seen.add(alike)
        placed = Placed(_decide(policy, name, terms, residents, devices, on, outlook), on)
        worth = _worth(placed, terms, residents, devices)
        if best is None or worth < best[0]:
            best = worth, placed
    assert best is not None, "there is a set of so many devices"
    return best[1]


def _load(index: int, residents: Sequence[Resident], devices: Sequence[Device]) -> tuple[object, ...]:
    """Return what tells a device from others, as far as a decision is concerned."""
    return devices[index].budget, devices[index].most, tuple(sorted(one.name for one in residents if index in one.on))


def _decide(
    policy: Policy,
    name: str,
    terms: Terms,
    residents: Sequence[Resident],
    devices: Sequence[Device],
    on: tuple[int, ...],
    outlook: Outlook,
) -> Decision:
    """Ask the policy for each of these devices; who goes from one of them has gone from all."""
    mine = one_share(terms)
    victims: dict[str, None] = {}
    waits: list[Wait] = []
    for index in on:
        there = [
            here for one in residents if one.name not in victims and (here := _here(one, index, terms)) is not None
        ]
        match policy.decide(name, mine, there, devices[index], outlook):
            case Never() as never:
                return never
            case Wait() as wait:
                waits.append(wait)
            case Evict() as evict:
                victims |= dict.fromkeys(evict.models)
            case Fits():
                pass
    if waits:
        until = [wait.until for wait in waits if wait.until is not None]
        blockers = dict.fromkeys(blocker for wait in waits for blocker in wait.blockers)
        idle = victims | dict.fromkeys(one for wait in waits for one in wait.idle) if blockers else {}
        others = any(wait.others for wait in waits)
        return Wait(waits[0].why, max(until, default=None), tuple(blockers), tuple(idle), others)
    return Evict(tuple(victims)) if victims else Fits()


def _here(one: Resident, index: int, terms: Terms) -> Resident | None:
    """Return a model as one device sees it; of its own group a model is seen from everywhere."""
    if index in one.on:
        count = len(one.on)
        return one if count == 1 else replace(one, terms=replace(one.terms, need=share(one.terms.need, count)))
    return replace(one, terms=replace(one.terms, need=0)) if terms.group and one.terms.group == terms.group else None


def one_share(terms: Terms) -> Terms:
    """Return the terms of a model as each of its devices has them."""
    return terms if terms.devices == 1 else replace(terms, need=share(terms.need, terms.devices))


def share(need: int, devices: int) -> int:
    """Return the bytes that a model takes of each of its devices."""
    return -(-need // devices)


def _worth(placed: Placed, terms: Terms, residents: Sequence[Resident], devices: Sequence[Device]) -> tuple[float, ...]:
    """Return how good a set is, the lower the better: of those with room, the one in which least is left over."""
    decision = placed.decision
    rank = ORDER.index(type(decision))
    match decision:
        case Fits():
            used = sum(
                share(one.terms.need, len(one.on)) for one in residents for index in one.on if index in placed.on
            )
            return rank, sum(inf if (budget := devices[index].budget) is None else budget for index in placed.on) - used
        case Evict():
            return rank, sum(cost(one) for one in residents if one.name in decision.models), len(decision.models)
        case Wait():
            return rank, decision.others, inf if decision.until is None else decision.until, len(decision.blockers)
    return (rank,)
