"""From the name in a request to a model: names, aliases, the default, and the nearest match of a wrong one."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


def nearest(wanted: str, names: Iterable[str]) -> str | None:
    """Return the known name that looks most like the wanted one, if any does."""
    found = get_close_matches(wanted[:64].lower(), {name.lower(): name for name in names}, n=1, cutoff=0.5)
    return {name.lower(): name for name in names}[found[0]] if found else None


class Names:
    """The models' names and aliases."""

    def __init__(self, aliases: Mapping[str, Iterable[str]], default: str) -> None:
        """`aliases` maps each model to its other names; `default` is used by requests that name none."""
        self.default = default
        self._models = {name: name for name in aliases}
        for name, others in aliases.items():
            for other in others:
                self._models.setdefault(other, name)
        self._own = tuple(aliases)
        self._all = {
            own: frozenset((own, *(name for name, model in self._models.items() if model == own))) for own in aliases
        }

    def find(self, wanted: str | None) -> str | None:
        """Return the model that a request means, or None."""
        return self._models.get(self.default if wanted is None else wanted)

    def of(self, model: str | None) -> frozenset[str]:
        """Return all names of what a request may have asked for; of what does not exist, just what it said."""
        return self._all.get(model or self.default, frozenset((model or self.default,)))

    def explain(self, wanted: str) -> tuple[str, str]:
        """Return message and hint for a name that does not exist."""
        near = nearest(wanted, self._models)
        message = f"model '{wanted[:64]}' does not exist; there are: {', '.join(self._own)}"
        return message, f"did you mean '{near}'?" if near else "see `ingle models`"
