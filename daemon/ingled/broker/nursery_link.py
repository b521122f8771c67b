"""The nursery on the private link: whether it is there, how far it is, and what it is asked."""

import logging
from collections.abc import Callable
from itertools import count

from ingled import link
from ingled.broker.peer import Peer

log = logging.getLogger(__name__)


class NurseryLink:
    """What the nursery says, and what it is told; nothing is, while there is none."""

    def __init__(self, send: Callable[[Peer, link.ToPeer], None]) -> None:
        self._send = send
        self.peer: Peer | None = None
        self.pid: int | None = None
        """Of the one that was connected last."""
        self.phase = "starting"
        self._was_ready = False
        self._plans: dict[int, Callable[[link.Planned], None]] = {}
        self._refs = count()
        self.on_ready: Callable[[], None] = lambda: None
        """Is called when models can be planned."""
        self.on_loading: Callable[[int], None] = lambda percent: None

    def connected(self) -> int | None:
        """Return the process id of the nursery, while it is connected."""
        return None if self.peer is None else self.pid

    def was_ready(self) -> bool:
        """Return whether the nursery has been ready since this was asked last."""
        ready, self._was_ready = self._was_ready, False
        return ready

    # ------------------------------------------------------------ out

    def tell(self, message: link.ToPeer) -> None:
        """Send to the nursery."""
        if self.peer is not None:
            self._send(self.peer, message)

    def dismiss(self) -> None:
        """Have the nursery leave."""
        self.tell(link.Stop())

    def plan(self, spec: link.Spec, answer: Callable[[link.Planned], None]) -> bool:
        """Have the engine say what a model would take; returns False, without an answer, while there is none."""
        if self.peer is None or self.phase != "ready":
            return False
        ref = next(self._refs)
        self._plans[ref] = answer
        self.tell(link.Plan(ref, spec))
        return True

    # ------------------------------------------------------------ in

    def attached(self, peer: Peer, pid: int) -> bool:
        """A nursery has come, and has shown that it may; returns False when there is another one already."""
        if self.peer is not None and self.pid != pid:
            log.error("nursery %d lives already: %d is told to stop", self.pid, pid)
            self._send(peer, link.Stop())
            return False
        self.peer, self.pid = peer, pid
        return True

    def loading(self, message: link.Loading) -> None:
        """It says how far it is."""
        self.phase = message.phase
        if message.phase == "ready":
            self._was_ready = True
            self.on_ready()
        else:
            self.on_loading(message.percent)

    def planned(self, message: link.Planned) -> None:
        """It says what a model would take."""
        if (answer := self._plans.pop(message.ref, None)) is not None:
            answer(message)

    def gone(self, peer: Peer) -> None:
        """A link broke: if it was the nursery's, what was asked of it has no other answer."""
        if peer is not self.peer:
            return
        self.peer, self.phase = None, "gone"
        plans, self._plans = self._plans, {}
        for ref, answer in plans.items():
            answer(link.Planned(ref, note="the nursery has gone"))
