"""What `ingle.line` is to blocking code, for asyncio: session, socket and clock, driven by the loop's
callbacks.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ingle import __version__, address
from ingle.errors import IngleError, ProtocolError, Unreachable, from_failed
from ingle.line import ENDS, FAREWELL_S, RETURN_PAUSE_S, passing, unreachable
from ingle.session import Session
from ingle.wire.codec import Message
from ingle.zmtp import BrokenPeer, Dealer


class _Inbox:
    """Messages of one ref that nobody has read, and who waits for the next."""

    __slots__ = ("messages", "waiter")

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the one who waits look again."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class AsyncLine:
    """One connection that comes back by itself, on one event loop.

    It has no task of its own, and the socket is the loop's own business (`add_reader`): a call takes 108 us, of
    which a bare zmq.asyncio socket alone would take 160.
    """

    def __init__(self, socket: str | None, name: str, tags: Sequence[str], timeout: float) -> None:
        self.path = address.find(socket)
        self.timeout = timeout
        self.session = Session(name, version=__version__, tags=tags, patience=timeout)
        self._loop = asyncio.get_running_loop()
        self._inbox: dict[int, _Inbox] = {}
        self._dealer: Dealer | None = None
        self._dead: IngleError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._opened = _Inbox()
        self._writing = False

    async def open(self) -> None:
        """Connect and wait for the daemon's welcome."""
        self.session.start(self._loop.time())
        until = self._loop.time() + self.timeout
        while self._dealer is None:
            try:
                self._plug(Dealer(self.path))
            except OSError as error:
                if not passing(error, self.path) or self._loop.time() >= until:
                    raise unreachable(self.path, error) from error
                await asyncio.sleep(RETURN_PAUSE_S)
        while self.session.state != "open":
            await self._wait(self._opened)

    def expect(self, ref: int) -> int:
        """Keep what arrives for this ref, and send what was just asked."""
        self._inbox[ref] = _Inbox()
        self._flush()
        return ref

    async def next(self, ref: int) -> Message:
        """Return the next message for the ref."""
        inbox = self._inbox[ref]
        while not inbox.messages:
            await self._wait(inbox)
        message = inbox.messages.popleft()
        if message["t"] in ENDS:
            self._inbox.pop(ref, None)
        elif message["t"] in ("chunk", "event"):
            self.session.taken(ref)
            self._flush()
        return message

    async def answer(
        self, ref: int, *, forever: bool = False, on_progress: Callable[[Message], None] | None = None
    ) -> Any:
        """Return the result of a call. Waits `timeout` at most, unless `forever`."""
        self.expect(ref)
        try:
            async with asyncio.timeout(None if forever else self.timeout):
                while (message := await self.next(ref))["t"] == "progress":
                    if on_progress is not None:
                        on_progress(message)
        except TimeoutError as error:
            raise Unreachable(self.path, "silent") from error
        finally:
            self._inbox.pop(ref, None)
            self.session.forget(ref)
        if message["t"] == "failed":
            raise from_failed(message)
        return message["value"]

    def stop(self, ref: int) -> None:
        """Cancel what was opened under the ref; its end still arrives."""
        self.session.stop(ref)
        self._flush()

    def drop(self, ref: int) -> None:
        """Cancel what was opened under the ref and hear no more of it."""
        self._inbox.pop(ref, None)
        self.stop(ref)

    async def leave(self) -> None:
        """Close. Where something runs and the daemon is away, it has a moment to come back and hear of that."""
        try:
            if not self._bye() and self.session.leaves():
                async with asyncio.timeout(FAREWELL_S):
                    while not self._bye():
                        await self._wait(self._opened)
        except (TimeoutError, IngleError):
            pass  # it does not come back
        finally:
            self._die(self._dead or IngleError("the client is closed"))

    def close(self) -> None:
        """Take leave of a daemon that is there; closing twice is fine."""
        self._bye()
        self._die(self._dead or IngleError("the client is closed"))

    def _bye(self) -> bool:
        """Take leave of the daemon; returns whether it is there."""
        self.session.bye()
        self._flush()
        return self.session.state == "open"

    async def _wait(self, inbox: _Inbox) -> None:
        if self._dead is not None:
            raise self._dead
        inbox.waiter = self._loop.create_future()
        try:
            await inbox.waiter
        finally:
            inbox.waiter = None

    def _plug(self, dealer: Dealer) -> None:
        self._dealer = dealer
        self._loop.add_reader(dealer.fileno(), self._readable)
        self.session.connected()
        self._at(self.session.deadline, self._look)
        self._flush()  # may hang up, and has then set the timer for the next try

    def _unplug(self) -> None:
        if self._dealer is not None:
            self._loop.remove_reader(self._dealer.fileno())
            self._loop.remove_writer(self._dealer.fileno())
            self._writing = False
            self._dealer.close()
            self._dealer = None

    def _readable(self) -> None:
        if self._dealer is None:
            return
        try:
            arrived = self._dealer.receive()
        except BrokenPeer as error:
            self._die(unreachable(self.path, error))
            return
        except OSError:
            self._hang_up()
            return
        try:
            for frames in arrived:
                self._take(frames)
        except IngleError as error:
            self._die(error)
            return
        self._flush()

    def _take(self, frames: list[bytes]) -> None:
        if len(frames) != 1:
            raise ProtocolError(f"the daemon sent a message of {len(frames)} frames")
        for ref, message in self.session.receive(frames[0]):
            inbox = self._inbox.get(ref)
            if inbox is not None:
                inbox.messages.append(message)
                inbox.wake()
        if self.session.state == "open":
            self._opened.wake()

    def _flush(self) -> None:
        """Send what the session wants to say; what the socket does not take goes when it is writable."""
        if self._dealer is None:
            return
        try:
            for data in self.session.take():
                self._dealer.send(data)
            self._dealer.flush()
        except OSError:
            self._hang_up()
            return
        if self._dealer.wants_write != self._writing:
            self._writing = self._dealer.wants_write
            if self._writing:
                self._loop.add_writer(self._dealer.fileno(), self._flush)
            else:
                self._loop.remove_writer(self._dealer.fileno())

    def _hang_up(self) -> None:
        self._unplug()
        self.session.disconnected(self._loop.time())
        self._at(self.session.retry_at, self._redial)

    def _redial(self) -> None:
        if self._look():
            return
        try:
            dealer = Dealer(self.path)
        except OSError:
            self._hang_up()
        else:
            self._plug(dealer)

    def _look(self) -> bool:
        """Give up when the daemon has been away for too long."""
        if not self.session.gave_up(self._loop.time()):
            return False
        self._die(Unreachable(self.path, "lost" if self._dealer is None else "silent"))
        return True

    def _at(self, when: float | None, do: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self._loop.call_at(when, do)

    def _die(self, error: IngleError) -> None:
        """Nothing comes any more: whoever waits, or will, is told why."""
        self._dead = error
        self._at(None, self._look)
        self._unplug()
        for inbox in (self._opened, *self._inbox.values()):
            inbox.wake()
