"""What the broker knows of a worker that has attached."""

from dataclasses import dataclass

from ingled import link
from ingled.broker.peer import Peer


@dataclass(slots=True)
class Worker:
    """What the broker knows of an attached worker."""

    model: str
    pid: int
    peer: Peer
    info: link.Info | None = None
    asleep: link.Asleep | None = None
    stats: link.Stats | None = None
    stats_at: float = 0.0
    tokens_s: float = 0.0
    busy_at: float = 0.0
    heard_at: float = 0.0
    settled: bool = False
    """It has told all that it holds."""

    @property
    def taken(self) -> int | None:
        """Return the bytes that it has now, awake or asleep; None while it is not ready, or says nothing.

        Of a peak that has passed nothing is left: it is free, and counted as that.
        """
        if self.info is None:
            return None
        if self.asleep is not None:
            return self.asleep.left_bytes
        return (self.stats.taken_bytes if self.stats else 0) or self.info.taken_bytes or None

    @property
    def most(self) -> int | None:
        """Return the most that it has had since it was ready; None while it is not, or says nothing."""
        if self.info is None:
            return None
        return max(self.info.taken_bytes, self.stats.most_bytes if self.stats else 0) or None
