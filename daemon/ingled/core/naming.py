"""From the name in a request to a model that its account may use. To an account there are no others. Pure."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from ingle.wire.schema import Code

from ingled.core.accounts import Rights, forbidden, visible

SOMEBODY = "(another)"
"""A model that the one who asks may not see."""


def nearest(wanted: str, names: Iterable[str]) -> str | None:
    """Return the known name that looks most like the wanted one, if any does."""
    known = {name.lower(): name for name in names}
    found = get_close_matches(wanted[:64].lower(), known, n=1, cutoff=0.5)
    return known[found[0]] if found else None


class Unusable(NamedTuple):
    """Why a name is no model that an account may use."""

    code: Code
    message: str
    hint: str


class Names:
    """The models' names and aliases."""

    def __init__(self, aliases: Mapping[str, Iterable[str]], default: str) -> None:
        """`aliases` maps each model to its other names; `default` is used by requests that name none."""
        self.set(aliases, default)

    def set(self, aliases: Mapping[str, Iterable[str]], default: str) -> None:
        """Have other models, from now on."""
        self.default = default
        self._models = {name: name for name in aliases}
        for name, others in aliases.items():
            for other in others:
                self._models.setdefault(other, name)
        self._own = tuple(aliases)
        self._hidden: dict[tuple[str, ...], re.Pattern[str] | None] = {}
        """By the models that an account may use: what finds the names of the others."""
        self._all = {
            own: frozenset((own, *(name for name, model in self._models.items() if model == own))) for own in aliases
        }

    def find(self, wanted: str | None) -> str | None:
        """Return the model that a request means, or None."""
        return self._models.get(self.default if wanted is None else wanted)

    def of(self, model: str | None) -> frozenset[str]:
        """Return all names of what a request may have asked for; of what does not exist, just what it said."""
        return self._all.get(model or self.default, frozenset((model or self.default,)))

    def usable(self, wanted: str | None, account: str, rights: Rights) -> str | Unusable:
        """Return the model that an account means, or why it may not have it."""
        name = self.find(wanted)
        if name is None:
            return Unusable("no_such_model", *self._explain(wanted or "", rights))
        if not rights.uses(name):
            return Unusable("not_allowed", *forbidden(account, wanted, rights))
        return name

    def blot(self, text: str, rights: Rights) -> str:
        """Return a text for people without the names of models that an account may not see."""
        if rights.models not in self._hidden:
            hidden = [re.escape(name) for name in sorted(self._own, key=len, reverse=True) if not rights.uses(name)]
            found = re.compile(rf"(?<![\w.:/-])(?:{'|'.join(hidden)})(?![\w/-])") if hidden else None
            self._hidden[rights.models] = found
        pattern = self._hidden[rights.models]
        return text if pattern is None else pattern.sub(SOMEBODY, text)

    def _explain(self, wanted: str, rights: Rights) -> tuple[str, str]:
        """Return message and hint for a name that does not exist."""
        seen = visible(self._own, rights)
        near = nearest(wanted, (name for name, model in self._models.items() if model in seen))
        there = f"there are: {', '.join(seen)}" if seen else "there is none that you may use"
        hint = f"did you mean '{near}'?" if near else "see `ingle models`"
        return f"model '{wanted[:64]}' does not exist; {there}", hint
