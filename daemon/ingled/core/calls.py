"""Calls that are answered when something has become of a model. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingled.core.accounts import Rights


class Call(NamedTuple):
    """Who waits to hear what becomes of a model."""

    model: str
    conn: int
    ref: int
    rights: Rights


class Calls:
    """Those that wait for the same thing, the first one first."""

    def __init__(self) -> None:
        self._all: list[Call] = []

    @property
    def models(self) -> Iterable[str]:
        """Return the models that are waited for."""
        return dict.fromkeys(call.model for call in self._all)

    def any_of(self, model: str) -> bool:
        """Return whether one of them waits for a model."""
        return any(call.model == model for call in self._all)

    def add(self, call: Call) -> None:
        """Have it wait."""
        self._all.append(call)

    def of(self, model: str) -> Iterator[Call]:
        """Return those that wait for a model."""
        return (call for call in self._all if call.model == model)

    def take(self, model: str) -> list[Call]:
        """Return those that wait for a model; they wait no longer."""
        taken = list(self.of(model))
        self._all = [call for call in self._all if call.model != model]
        return taken

    def drop(self, call: Call) -> bool:
        """Have it wait no longer, and return whether it did."""
        waited = call in self._all
        if waited:
            self._all.remove(call)
        return waited

    def gone(self, conn: int) -> None:
        """Forget those of a connection that has ended."""
        self._all = [call for call in self._all if call.conn != conn]
