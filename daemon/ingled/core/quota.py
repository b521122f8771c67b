"""How many tokens an account has left: buckets that fill by themselves. Pure.

A request is let in while the account has something left, and pays for prompt and answer when it is over; who took more
than there was waits until that is paid off. So nobody has to guess the length of an answer beforehand.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ingled.core.accounts import Rights

PERIODS = {"minute": 60.0, "day": 86400.0}


@dataclass(slots=True)
class Bucket:
    """Tokens of one period: `most` of them, filled evenly in `seconds`."""

    most: int
    seconds: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        """Let time pass."""
        self.left = min(self.most, self.left + (now - self.at) * self.most / self.seconds)
        self.at = now

    @property
    def wait_s(self) -> float:
        """Seconds until something is left."""
        return max(0.0, (1 - self.left) * self.seconds / self.most)


@dataclass(slots=True)
class Quotas:
    """The buckets of all accounts that have limits."""

    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    payments: int = 0
    """How often something was taken: while it is the same, there is nothing new to keep."""

    def wait(self, now: float, account: str, rights: Rights) -> tuple[str, float] | None:
        """Return which limit an account has used up, and for how many seconds yet; None if it may go on."""
        for period, most in (("minute", rights.tokens_per_minute), ("day", rights.tokens_per_day)):
            key = (account, period)
            if most is None:
                self.buckets.pop(key, None)
                continue
            bucket = self.buckets.get(key)
            if bucket is None or bucket.most != most:
                left = most if bucket is None else min(bucket.left, most)
                bucket = self.buckets[key] = Bucket(most, PERIODS[period], left, now)
            bucket.fill(now)
            if bucket.left < 1:
                return f"{most} tokens per {period}", bucket.wait_s
        return None

    def pay(self, now: float, account: str, tokens: int) -> None:
        """A request is over, and was worth so many tokens."""
        for period in PERIODS:
            bucket = self.buckets.get((account, period))
            if bucket is not None:
                bucket.fill(now)
                bucket.left -= tokens
                self.payments += 1

    def kept(self, now: float) -> list[tuple[str, str, int, float]]:
        """Return what a daemon that comes later needs: account, period, limit, and what is left of it, if not all."""
        for bucket in self.buckets.values():
            bucket.fill(now)
        found = [(*key, one.most, one.left) for key, one in self.buckets.items()]
        return [(account, period, most, left) for account, period, most, left in found if left < most]

    def restore(self, now: float, kept: Iterable[tuple[str, str, int, float]], seconds: float) -> None:
        """Go on with what was left so many seconds ago."""
        for account, period, most, left in kept:
            if period in PERIODS and most > 0:
                self.buckets[account, period] = Bucket(most, PERIODS[period], left, now - seconds)

    def left(self, now: float, account: str) -> dict[str, int | None]:
        """Return the tokens left by period; None where there is no limit."""
        found: dict[str, int | None] = {}
        for period in PERIODS:
            bucket = self.buckets.get((account, period))
            if bucket is not None:
                bucket.fill(now)
            found[period] = None if bucket is None else max(0, int(bucket.left))
        return found
