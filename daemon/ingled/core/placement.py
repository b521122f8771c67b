"""Which models share a device: who fits, whether somebody has to go, and who waits. Pure.

A policy is asked anew whenever something has changed, and answers for one model at a time; `Residents` carries it out.
What every policy has to keep to is here (`Sharing`), and which of the models go is another matter (`eviction`). Another
policy is any object with `decide`, or a `Sharing` with other `victims`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from ingle.bytesize import spell


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or the memory of the machine."""

    name: str = "cpu"
    budget: int | None = None
    """Bytes that models may take in all; None: no bound is known."""
    most: int | None = None
    """Bytes that they might take if others than models gave theirs back; None: it is not known, `budget` counts."""
    whole: bool = False
    """It is the only place: a model that is spread has all of its shares there."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a profile says of when its model may be there."""

    need: int = 0
    """Bytes that it takes; 0 while nobody knows."""
    reload_s: float = 1.0
    """Seconds that a load takes, as it was measured last, or is guessed to take."""
    weight: float = 1.0
    """How much more than another model it is worth keeping."""
    min_resident: float = 0.0
    """Seconds that it stays at least, once it is ready."""
    group: str | None = None
    """Of a group, one model is resident at a time."""
    exclusive: bool = False
    """It is resident alone, on its devices."""
    devices: int = 1
    """Over how many it is spread, evenly."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that takes memory now."""

    name: str
    terms: Terms
    on: tuple[int, ...] = (0,)
    """Indices of the devices that it is on."""
    busy: bool = False
    """It runs requests, or moves."""
    leaving: bool = False
    """It has been told to go; until then its memory is taken."""
    moving: str = ""
    """What changes its memory just now, such as `is being loaded`: one model at a time."""
    asleep: bool = False
    """What it needs is what it keeps asleep."""
    pinned: bool = False
    idle: float = 0.0
    """Seconds since its last request."""
    popularity: float = 0.0
    """Its part of what was asked of late, 0 to 1 (`Uses`)."""
    age: float = 0.0
    """Seconds since it became ready."""


@dataclass(frozen=True, slots=True)
class Fits:
    """It can be loaded now."""


@dataclass(frozen=True, slots=True)
class Evict:
    """It can be loaded when these have gone; all of them are idle."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """It will fit, but not yet."""

    why: str
    until: float | None = None
    """Seconds after which it is worth asking again, though nothing else happens."""
    blockers: tuple[str, ...] = ()
    """Busy models that would have to go; who has waited too long has them closed."""
    idle: tuple[str, ...] = ()
    """Idle ones that would have to go with them: closed with them too, or the one is busy whenever the other is not."""
    others: bool = False
    """For memory that others than models hold: nobody here can do anything for it."""


@dataclass(frozen=True, slots=True)
class Never:
    """It does not fit, whoever goes."""

    why: str
    hint: str = ""


Decision = Fits | Evict | Wait | Never


@dataclass(frozen=True, slots=True)
class Absent:
    """A model that is not there: somebody may ask it next."""

    terms: Terms
    """With the need of one of its devices."""
    popularity: float
    """Its part of what was asked of late, 0 to 1 (`Uses`)."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a policy may look at beside the device."""

    waited: float = inf
    """Seconds for which somebody has waited for the model."""
    popularity: float = 0.0
    """Its part of what was asked of late, 0 to 1 (`Uses`)."""
    absent: Callable[[], Sequence[Absent]] = tuple
    """Tells the other models that are not there and have been asked of late: of many, and seldom of interest."""


AT_ONCE = Outlook()
"""Nothing is known, and nobody is to wait without need."""


class Policy(Protocol):
    """What decides who is resident."""

    def decide(
        self, name: str, terms: Terms, residents: Sequence[Resident], device: Device, outlook: Outlook = AT_ONCE
    ) -> Decision:
        """Say what has to happen for a model to be loaded on a device where these are."""


class Sharing(ABC):
    """What every policy keeps to: no busy, pinned or fresh model goes, nobody for what will not fit, one at a time."""

    def decide(
        self, name: str, terms: Terms, residents: Sequence[Resident], device: Device, outlook: Outlook = AT_ONCE
    ) -> Decision:
        """Say what has to happen; which of the idle models go is for `victims` to say."""
        never = self._never(name, terms, residents, device)
        if never is not None:
            return never
        if (elsewhere := _held_elsewhere(name, terms, residents, device)) is not None:
            return elsewhere
        moving = next((one for one in residents if one.moving), None)
        if moving is not None:  # one at a time: each measures the memory that all share
            return Wait(f"model '{moving.name}' {moving.moving}")
        forced = [one for one in residents if _excludes(terms, one)]
        others = [one for one in residents if one not in forced]
        excess = _excess(terms, others, device)
        freed = sum(one.terms.need for one in others if not held(one))
        if freed < excess or any(held(one) for one in forced):
            return self._wait(forced, others, excess - freed)
        goes = self.victims(terms, others, excess, outlook) if excess > 0 else ()
        if isinstance(goes, Wait):
            return goes
        chosen = [*forced, *goes]
        leaving = [one.name for one in residents if one.leaving]
        if not chosen:
            return (
                Wait(f"model '{leaving[0]}' gives its memory back")
                if leaving and _tight(terms, residents, device)
                else Fits()
            )
        return Evict(tuple(one.name for one in chosen))

    @abstractmethod
    def victims(
        self, terms: Terms, there: Sequence[Resident], excess: int, outlook: Outlook
    ) -> Sequence[Resident] | Wait:
        """Say who of those there goes, so that `excess` bytes are free: none that is `held`; or who is waited for.

        Those that are not held have so much together.
        """

    def _never(self, name: str, terms: Terms, residents: Sequence[Resident], device: Device) -> Never | None:
        fixed = next((one.name for one in residents if one.pinned and _excludes(terms, one)), None)
        if fixed is not None:
            return Never(f"model '{name}' cannot be there beside '{fixed}', which is pinned", f"`ingle unpin {fixed}`")
        if device.budget is None:
            return None
        most = _most(device.budget, device)
        if terms.need > most:
            have = f"{device.name} has {spell(most)} for models"
            return Never(
                f"model '{name}' needs {spell(terms.need)}, and {have}", f"`ingle plan {name}` says what would fit"
            )
        pinned = [one for one in residents if one.pinned and not one.leaving]
        held = sum(one.terms.need for one in pinned)
        if terms.need > most - held:
            names = ", ".join(one.name for one in pinned)
            left = f"pinned models ({names}) leave {spell(most - held)} of {spell(most)}"
            return Never(f"model '{name}' needs {spell(terms.need)}, and {left}", "`ingle unpin` one of them")
        return None

    def _wait(self, forced: Sequence[Resident], others: Sequence[Resident], short: int) -> Wait:
        """Say for whom it waits: those that must go, or as many of the busy ones as are needed.

        `short`: bytes that are missing if all others go that are not held.
        """
        blockers, excess = [one for one in forced if held(one)], short
        for one in sorted((one for one in others if held(one)), key=lambda one: one.terms.need, reverse=True):
            if excess <= 0:
                break
            if not one.pinned and not one.leaving:
                blockers.append(one)
                excess -= one.terms.need
        pauses = [one.terms.min_resident - one.age for one in blockers if not one.busy and not one.leaving]
        words = [f"'{one.name}' {_why_held(one)}" for one in blockers]
        busy = tuple(one.name for one in blockers if one.busy and not one.pinned)
        goes = [*forced, *(others if short > 0 else ())]
        idle = tuple(one.name for one in goes if not held(one)) if busy else ()
        return Wait(f"model {' and '.join(words)}" if words else "memory", min(pauses, default=None), busy, idle)


def _most(budget: int, device: Device) -> int:
    """Return the bytes that models may take at best."""
    return budget if device.most is None else max(budget, device.most)


def _held_elsewhere(name: str, terms: Terms, residents: Sequence[Resident], device: Device) -> Wait | None:
    """Return that a model waits for memory of others than models: it would not fit if all went that can go."""
    if device.budget is None:
        return None
    left = device.budget - sum(one.terms.need for one in residents if one.pinned and not one.leaving)
    if terms.need <= left:
        return None
    where = "memory" if device.name == "memory" else f"memory of {device.name}"
    text = f"other programs hold {where}: it needs {spell(terms.need)}, and {spell(max(0, left))} are left"
    return Wait(text, others=True)


def _excludes(new: Terms, one: Resident) -> bool:
    old = one.terms
    return not one.asleep and (new.exclusive or old.exclusive or (new.group is not None and new.group == old.group))


def held(one: Resident) -> bool:
    """Return whether it may not be evicted now."""
    return one.busy or one.pinned or one.leaving or one.age < one.terms.min_resident


def _why_held(one: Resident) -> str:
    if one.leaving:
        return "gives its memory back"
    if one.pinned:
        return "is pinned"
    return "is busy" if one.busy else "has just been loaded"


def _excess(terms: Terms, residents: Sequence[Resident], device: Device) -> int:
    """Return by how many bytes a model is too much, beside those that stay; those that leave have gone by then."""
    if device.budget is None:
        return 0
    return terms.need + sum(one.terms.need for one in residents if not one.leaving) - device.budget


def _tight(terms: Terms, residents: Sequence[Resident], device: Device) -> bool:
    """Return whether what leaves has to be gone first."""
    excludes = any(one.leaving and _excludes(terms, one) for one in residents)
    if device.budget is None:
        return excludes
    return excludes or terms.need + sum(one.terms.need for one in residents) > device.budget
