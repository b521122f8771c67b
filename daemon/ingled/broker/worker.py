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
