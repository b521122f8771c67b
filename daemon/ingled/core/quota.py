"""How many tokens an account has left: buckets that fill by themselves. Pure.

A request is let in while the account has something left, and pays for prompt and answer when it is over; who took more
than there was waits until that is paid off. So nobody has to guess the length of an answer beforehand.
"""

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

    def left(self, now: float, account: str) -> dict[str, int | None]:
        """Return the tokens left by period; None where there is no limit."""
        found: dict[str, int | None] = {}
        for period in PERIODS:
            bucket = self.buckets.get((account, period))
            if bucket is not None:
                bucket.fill(now)
            found[period] = None if bucket is None else max(0, int(bucket.left))
        return found
