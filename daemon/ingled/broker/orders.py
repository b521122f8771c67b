"""What workers are told at the end of a turn of the loop: credit, aborts and releases of one turn travel together."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ingled import link


@dataclass(slots=True)
class _Order:
    grants: dict[str, tuple[int, int]] = field(default_factory=dict)
    aborts: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)


class Orders:
    """What waits for the end of this turn, by worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[str, link.ToPeer], None]) -> None:
        """`send` gives a message to a worker, if it is there."""
        self._loop, self._send = loop, send
        self._waiting: dict[str, _Order] = {}

    def grant(self, worker: str, id: str, n: int, ack: int) -> None:
        """Let a worker send `n` more chunks and forget text below `ack`."""
        grants = self._of(worker).grants
        earlier, acked = grants.get(id, (0, 0))
        grants[id] = (earlier + n, max(acked, ack))

    def abort(self, worker: str, id: str) -> None:
        """Make a worker end a request."""
        self._of(worker).aborts.append(id)

    def release(self, worker: str, id: str) -> None:
        """Let a worker forget a request that has ended."""
        self._of(worker).releases.append(id)

    def settle(self) -> None:
        """Send the aborts that wait now: what is answered next, such as a cancel, must outlive this process."""
        for worker in [worker for worker, order in self._waiting.items() if order.aborts]:
            self.tell(worker)

    def _of(self, worker: str) -> _Order:
        order = self._waiting.get(worker)
        if order is None:
            order = self._waiting[worker] = _Order()
            self._loop.call_soon(self.tell, worker)
        return order

    def tell(self, worker: str) -> None:
        """Tell a worker now what waits for it."""
        order = self._waiting.pop(worker, None)
        if order is None:
            return  # it has been told already
        if order.grants:
            self._send(worker, link.Credit(order.grants))
        if order.aborts:
            self._send(worker, link.Abort(order.aborts))
        if order.releases:
            self._send(worker, link.Release(order.releases))
