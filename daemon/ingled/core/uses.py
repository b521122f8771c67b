"""How often models are asked, of late. Pure.

Late is counted in requests, not in hours: a use fades as others are asked, and not while nobody asks anything. So it is
the same with a request every second and with twenty in a day, and a night forgets nothing.
"""

from collections.abc import Collection, Mapping
from math import exp, inf

MEMORY = 500
"""Requests, for whatever model, after which a use counts for 1/e of a new one (bench/residency.py)."""
LEAST = 0.01
"""What counts for less of one use is forgotten."""


class Uses:
    """The uses of all models that have been asked."""

    def __init__(self) -> None:
        self.asked = 0
        """Requests, for whatever model: the clock by which uses fade."""
        self._counts: dict[str, tuple[float, int]] = {}
        """For how many new uses those of a model counted when it was asked last, and when that was."""
        self._whole = 0.0
        """For how many those of all models count."""
        self._last: float | None = None
        """When somebody asked last."""
        self.gap = 0.0
        """Seconds between two requests, for whatever model, in the mean; 0: nobody knows."""

    def go_on(self, left: Mapping[str, float], gap: float) -> None:
        """Go on from what was `left` of the uses by model, and the seconds between two, before anybody asks here."""
        self._counts, self.gap = {name: (count, 0) for name, count in left.items()}, gap
        self._whole = sum(left.values())

    def add(self, now: float, name: str) -> None:
        """A model was asked."""
        if self._last is not None:
            pause = now - self._last
            self.gap = self.gap + (pause - self.gap) / self._whole if self.gap else pause
        self._last = now
        self.asked += 1
        self._whole = self._whole * exp(-1 / MEMORY) + 1
        self._counts[name] = self._left(name) + 1, self.asked
        if self.asked % MEMORY == 0:
            self._counts = {one: self._counts[one] for one in self.left()}

    def _left(self, name: str) -> float:
        count, at = self._counts.get(name, (0.0, 0))
        return count * exp((at - self.asked) / MEMORY)

    @property
    def known(self) -> Collection[str]:
        """Return the models that have been asked, and are not forgotten."""
        return self._counts.keys()

    def left(self) -> dict[str, float]:
        """Return for how many new uses those of each model count by now."""
        return {name: left for name in self._counts if (left := self._left(name)) >= LEAST}

    def popularity(self, name: str) -> float:
        """Return a model's part of what was asked of late, 0 to 1."""
        left = self._left(name)
        return left / self._whole if left else 0.0

    def expected_s(self, now: float, name: str) -> float:
        """Return the seconds until a model can be expected to be asked, by its part of all and the pace of all.

        A pause that lasts is taken to last as long again.
        """
        popularity = self.popularity(name)
        if not popularity:
            return inf
        pause = 0.0 if self._last is None else now - self._last
        return max(self.gap, pause) / popularity
