"""The worker's end of the private link: a DEALER on the loop that connects again by itself, and the lease.

Sending never blocks and never drops while there is a broker; what one that is gone has not got, the attach to the next
one tells. What may pile up while the broker is slow is bounded elsewhere: chunks by the credit of each stream (a stream
without limit, by what one answer may hold), and everything by the lease, after which this process ends.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from ingle.zmtp import Dealer

from ingled import link

log = logging.getLogger(__name__)

FIRST_GRACE = 30.0
"""Seconds that the broker has for its first answer."""
TICK = 1.0
FLUSH_BYTES = 1 << 20
"""Most text in one message."""
RETRY_S = 0.05
"""Between two looks whether a broker listens."""
LINGER_S = 1.0


class Uplink:
    """Sends what a turn of the loop produced as one message, and counts the silence of the broker."""

    def __init__(
        self,
        path: str,
        receive: Callable[[link.ToPeer], None],
        expired: Callable[[], None],
        attach: Callable[[], None],
    ) -> None:
        """`attach` is called for each new connection: what it sends comes first."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._receive = receive
        self._expired = expired
        self._attach = attach
        self._grace = FIRST_GRACE
        self._silence = 0.0
        self._pieces: list[link.Piece] = []
        self._bytes = 0
        self._after: list[link.FromPeer] = []
        self._flushing = False
        self._closed = False
        self._dealer: Dealer | None = None
        self._writing = False
        self._deaf = False
        """The broker hears nothing more; what it said before is still to be read."""

    def connect(self) -> None:
        """Connect to the broker, now or when one listens."""
        if self._closed:
            return
        try:
            self._dealer = Dealer(self._path, max_frame=link.FRAME_BYTES)
        except OSError as error:
            log.debug("no broker: %s", error)
            self._loop.call_later(RETRY_S, self.connect)
            return
        self._loop.add_reader(self._dealer.fileno(), self._drain)
        self._pieces, self._bytes, self._after = [], 0, []  # of this turn: the attach tells that too
        self._attach()

    @property
    def tick_s(self) -> float:
        """Return the time between two `tick`s."""
        return min(TICK, self._grace / 4)

    def tick(self) -> None:
        """Say that this worker lives, and look how long the broker has been silent.

        Silence counts in ticks, not by the clock: a process that was paused must not end when it goes on.
        """
        self.send(link.Alive())
        self._drain()
        self._silence += self.tick_s
        if self._silence > self._grace:
            self._expired()

    def piece(self, piece: link.Piece) -> None:
        """Send a chunk with all others of this turn."""
        self._pieces.append(piece)
        self._bytes += piece.size
        if self._bytes >= FLUSH_BYTES:
            self.flush()
        else:
            self._flush_soon()

    def after(self, message: link.FromPeer) -> None:
        """Send a message after the chunks of this turn."""
        self._after.append(message)
        self._flush_soon()

    def send(self, message: link.FromPeer) -> None:
        """Send a message now, after what waits."""
        self._after.append(message)
        self.flush()

    def flush(self) -> None:
        """Send all that waits, in one write."""
        self._flushing = False
        messages, pieces = self._after, self._pieces
        if pieces:
            self._pieces, self._bytes = [], 0
            messages = [link.Chunks(pieces), *messages]
        if messages:
            self._after = []
            self._put(messages)

    def close(self) -> None:
        """Send what waits, for one second at most, and close."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        dealer, until = self._dealer, self._loop.time() + LINGER_S
        try:
            while dealer is not None and not self._deaf and dealer.unsent and (left := until - self._loop.time()) > 0:
                dealer.wait(left)
                dealer.receive()  # what a worker says that fails at once waits for the end of the handshake
                dealer.flush()
        except OSError:
            pass
        self._forget()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        if self._flushing:
            self.flush()

    def _put(self, messages: Sequence[link.FromPeer]) -> None:
        if self._dealer is None or self._deaf:
            return
        try:
            self._dealer.send_all(map(link.encode, messages))
        except OSError:
            self._deaf = True
        self._watch_writing()

    def _write(self) -> None:
        """Go on where the socket took no more."""
        if self._dealer is None:
            return
        try:
            self._dealer.flush()
        except OSError:
            self._deaf = True
        self._watch_writing()

    def _watch_writing(self) -> None:
        assert self._dealer is not None
        if (self._dealer.wants_write and not self._deaf) is not self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._dealer.fileno(), self._write)
            else:
                self._loop.remove_writer(self._dealer.fileno())

    def _drain(self) -> None:
        if self._dealer is None:
            return
        try:
            messages = self._dealer.receive()
        except OSError as error:
            self._lost(error)
            return
        for frames in messages:
            self._silence = 0.0
            try:
                message = link.decode_to_peer(frames[-1])
            except ValueError as error:
                log.error("message from the broker is unreadable: %s", error)
                continue
            if isinstance(message, link.Lease):
                self._grace = message.grace
            self._receive(message)

    def _lost(self, error: OSError) -> None:
        log.info("the broker has gone: %s", error)
        self._forget()
        if not self._closed:
            self._loop.call_later(RETRY_S, self.connect)

    def _forget(self) -> None:
        dealer, self._dealer, self._deaf = self._dealer, None, False
        if dealer is not None:
            self._loop.remove_reader(dealer.fileno())
            if self._writing:
                self._loop.remove_writer(dealer.fileno())
                self._writing = False
            dealer.close()
