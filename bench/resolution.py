"""Which wheels a machine lacks: a resolution that leaves alone what is installed there and suits. Pure.

pip cannot say this of another machine than its own, and knows no "rather what is there": so what is asked for is
followed here, and the index only says what each version asks for in turn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROUNDS = 100
"""Of asking for what is still open; a resolution that takes more goes in a circle."""


class NoSolution(RuntimeError):
    """There is no set of wheels that suits; the text says who asks for what."""


@dataclass(frozen=True)
class Wheel:
    """One version of a package, as the index has it."""

    name: str
    version: str
    sha256: str = ""
    requires: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass
class Demand:
    """What is asked of one package, and by whom."""

    specifier: SpecifierSet = field(default_factory=SpecifierSet)
    extras: set[str] = field(default_factory=set)
    askers: dict[str, SpecifierSet] = field(default_factory=dict)

    def add(self, asker: str, requirement: Requirement) -> None:
        """Add a requirement."""
        self.specifier &= requirement.specifier
        self.extras |= requirement.extras
        self.askers[asker] = self.askers.get(asker, SpecifierSet()) & requirement.specifier

    @property
    def against(self) -> list[str]:
        """Return the askers who cannot have what others want by its very version."""
        exact = [one.version for one in self.specifier if one.operator == "==" and not one.version.endswith(".*")]
        return [who for who, what in self.askers.items() if any(Version(one) not in what for one in exact)]

    @property
    def told(self) -> dict[str, str]:
        """Return who asks for what, as text."""
        return {who: str(what) or "any version" for who, what in self.askers.items()}

    def suits(self, version: str | None) -> bool:
        """Return whether a version will do; one that is not known will where none is asked for."""
        if version is None:
            return not str(self.specifier)
        return self.specifier.contains(Version(version), prereleases=True)

    def line(self, name: str) -> str:
        """Return it as a requirement."""
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{name}{extras}{self.specifier}"


Look = Callable[[Sequence[str]], dict[str, Wheel]]
"""Returns the newest wheel that suits each requirement, by name. Raises NoSolution when one has none."""


def demands(
    roots: Iterable[str], chosen: Mapping[str, Wheel], markers: Mapping[str, str], bounds: Mapping[str, SpecifierSet]
) -> dict[str, Demand]:
    """Return what roots, and what is chosen for them and for each other, ask for, within bounds. Pure."""
    found: dict[str, Demand] = {}
    asked: dict[str, set[str]] = {}
    waiting = [("you", Requirement(root)) for root in roots]
    while waiting:
        asker, requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        found.setdefault(name, Demand()).add(asker, requirement)
        wheel, before = chosen.get(name), asked.get(name)
        if wheel is None or (before is not None and found[name].extras <= before):
            continue
        asked[name] = set(found[name].extras)
        environments = [{**markers, "extra": extra} for extra in ("", *found[name].extras)]
        for text in wheel.requires:
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate(environment) for environment in environments):
                waiting.append((str(wheel), one))
    for bounded in bounds.keys() & found.keys():
        found[bounded].specifier &= bounds[bounded]
    return found


def resolve(
    roots: Sequence[str], installed: Mapping[str, str | None], markers: Mapping[str, str], look: Look
) -> tuple[dict[str, Wheel], dict[str, Demand]]:
    """Return the wheels that a machine with these packages lacks, and what was asked for. Raises NoSolution.

    What is installed and suits is taken as it is, with what it needs. A package whose newest version does not go with
    what others ask for by its very version is taken in an older one.
    """
    chosen: dict[str, Wheel] = {}
    bounds: dict[str, SpecifierSet] = {}
    for _ in range(ROUNDS):
        wanted = demands(roots, chosen, markers, bounds)
        chosen = {name: wheel for name, wheel in chosen.items() if name in wanted}
        if too_new := {who for demand in wanted.values() for who in demand.against}:
            older = {name: wheel for name, wheel in chosen.items() if str(wheel) in too_new and _free(wanted[name])}
            if not older:
                told = [f"{name}: {_askers(demand)}" for name, demand in wanted.items() if demand.against]
                raise NoSolution("\n".join(told))
            for name, wheel in older.items():
                bounds[name] = bounds.get(name, SpecifierSet()) & SpecifierSet(f"<{wheel.version}")
                del chosen[name]
            continue
        lacking = {name: demand for name, demand in wanted.items() if not _there(name, demand, chosen, installed)}
        if not lacking:
            return chosen, wanted
        try:
            chosen |= look([demand.line(name) for name, demand in lacking.items()])
        except NoSolution as error:
            wishes = [f"{name}: {_askers(demand)}" for name, demand in lacking.items() if name in str(error).lower()]
            raise NoSolution("\n".join([str(error), *wishes])) from error
    raise NoSolution(f"no end after {ROUNDS} rounds; still open: {', '.join(sorted(lacking))}")


def _free(demand: Demand) -> bool:
    """Return whether nobody asks for the very version."""
    return not any(one.operator in ("==", "===") for one in demand.specifier)


def _there(name: str, demand: Demand, chosen: Mapping[str, Wheel], installed: Mapping[str, str | None]) -> bool:
    if name in chosen:
        return demand.suits(chosen[name].version)
    return name in installed and demand.suits(installed[name])


def _askers(demand: Demand) -> str:
    return ", ".join(f"{who} wants {what}" for who, what in demand.told.items())


def read_installed(text: str) -> dict[str, str | None]:
    """Read what `pip list --format=freeze` prints; a name alone is a package whose version is not known."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].strip()
        if words:
            name, _, version = words.partition("==")
            found[canonicalize_name(name.partition(" @ ")[0].strip())] = version.strip() or None
    return found
