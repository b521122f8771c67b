"""What several rounds of one measurement say together: median and range, and ratios that are refused when it varies.

Pure. A figure without its spread says nothing on a machine that others use too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LIMIT = 0.1
"""A ratio is printed when the spread of both sides is at most this."""
TOO_WIDE = "spread too wide"
ONE_ROUND = "one round only"
NOTHING = "-"


@dataclass(frozen=True)
class Figure:
    """One quantity over the rounds, in the order in which they were run."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle of the rounds."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """Return how far the rounds lie apart, as a part of the median; infinite where the median is 0.

        That is the range of the middle half: of four rounds or more the smallest and the largest quarter are left out,
        so that more rounds do not make it wider. The tables show them all the same.
        """
        ordered = sorted(self.values)
        outside = len(ordered) // 4
        low, high = ordered[outside], ordered[len(ordered) - 1 - outside]
        if low == high:
            return 0.0
        return (high - low) / abs(self.median) if self.median else float("inf")

    def text(self, digits: int = 0) -> str:
        """Return the median and, of several rounds, the range."""
        if not self.values:
            return NOTHING
        middle = f"{self.median:,.{digits}f}"
        if len(self.values) == 1:
            return middle
        return f"{middle} ({min(self.values):,.{digits}f}..{max(self.values):,.{digits}f})"

    def short(self, digits: int = 0, scale: float = 1) -> str:
        """Return the median alone."""
        return f"{self.median * scale:,.{digits}f}" if self.values else NOTHING


def figure(values: Sequence[float | None]) -> Figure:
    """Return the figure of what was measured; rounds without a value are left out."""
    return Figure(tuple(value for value in values if value is not None))


def ratio(one: Figure, other: Figure, limit: float = LIMIT) -> Figure | None:
    """Return `one` over `other`, round by round; None when either varies too much to say so.

    What both sides suffer in a round, a busy neighbour for one, is in both and cancels. A single round shows no spread
    and so gives no ratio.
    """
    rounds = min(len(one.values), len(other.values))
    if rounds < 2 or max(one.spread, other.spread) > limit or 0 in other.values:
        return None
    return Figure(tuple(a / b for a, b in zip(one.values, other.values, strict=False)))


def ratio_text(one: Figure, other: Figure, limit: float = LIMIT) -> str:
    """Return the ratio as it stands in a table."""
    if not one.values or not other.values:
        return NOTHING
    if min(len(one.values), len(other.values)) < 2:
        return ONE_ROUND
    found = ratio(one, other, limit)
    return found.text(2) if found else TOO_WIDE


def percentile(values: Sequence[float], part: float) -> float | None:
    """Return the value that `part` (0 to 1) of the values do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
