"""Replays of a trace: in the daemon's own core, and as if loads took no time; and the policies ours is held against."""

from collections.abc import Sequence
from functools import partial

from ingled.core.eviction import LEAST_S, CheapestBack, cost
from ingled.core.placement import (
    Absent,
    Device,
    Evict,
    Fits,
    Outlook,
    Policy,
    Resident,
    Sharing,
    Terms,
    Wait,
    held,
)
from ingled.core.uses import Uses

from bench.clairvoyant import Clairvoyant, ToldPopularities
from bench.traces import Trace
from bench.virtual_time import Told, World


class LeastRecentlyUsed(Sharing):
    """Plain LRU: whoever was not used for the longest time goes, until there is room."""

    def victims(self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook) -> list[Resident]:
        """Choose by idle time alone."""
        gone = []
        for one in sorted((one for one in there if not held(one)), key=lambda one: one.idle, reverse=True):
            if excess > 0:
                gone.append(one)
                excess -= one.terms.need
        return gone


class Holding(CheapestBack):
    """Ours, but who is worth less than those that would go waits, so that more come meanwhile who want the same."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: so long at most."""
        self.seconds = seconds

    def victims(
        self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook
    ) -> Sequence[Resident] | Wait:
        """Choose as ours does, later."""
        found, left = super().victims(terms, there, excess, outlook), self.seconds - outlook.waited
        if isinstance(found, Wait) or left < LEAST_S:
            return found
        own = cost(Resident("", terms, popularity=outlook.popularity))
        return Wait("others are worth more", left) if sum(map(cost, found)) > own else found


def in_the_core(trace: Trace, policy: Policy) -> Told:
    """Return what comes of a trace in the daemon's own core under a policy."""
    world = World(trace.models, trace.budget, policy)
    if isinstance(policy, Clairvoyant | ToldPopularities):
        policy.world = world
    return world.replay(trace.requests)


def at_once(trace: Trace, policy: Policy) -> float:
    """Return seconds of loading under a policy, if loads took no time."""
    models, device, used_at, seconds = trace.models, Device("gpu", trace.budget), dict[str, float](), 0.0
    uses = Uses()
    for one in trace.requests:
        now, name = one.at, one.model
        uses.add(now, name)
        if name not in used_at:
            residents = [
                Resident(there, models[there], idle=now - at, age=now, popularity=uses.popularity(there))
                for there, at in used_at.items()
            ]
            away = [other for other in uses.known if other != name and other not in used_at]
            absent = tuple(Absent(models[other], uses.popularity(other)) for other in away)
            outlook = Outlook(popularity=uses.popularity(name), absent=partial(tuple, absent))
            decision = policy.decide(name, models[name], residents, device, outlook)
            assert isinstance(decision, Fits | Evict), decision
            if isinstance(decision, Evict):
                for victim in decision.models:
                    del used_at[victim]
            seconds += models[name].reload_s
        used_at[name] = now
        assert sum(models[there].need for there in used_at) <= trace.budget
    return seconds
