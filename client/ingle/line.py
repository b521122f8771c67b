"""A blocking line to the daemon: a session, its socket and the clock. `ingle.client` and the command stand on
it.

It speaks in messages (dicts), not in typed results, and imports little, so that the command starts fast.
"""

from __future__ import annotations

from os import fsencode
from time import monotonic, sleep

from ingle import __version__, address
from ingle.errors import IngleError, ProtocolError, Unreachable, from_failed
from ingle.session import Session
from ingle.wire.codec import Message
from ingle.zmtp import BrokenPeer, Dealer

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence
    from typing import Any, Self
else:
    from _collections import deque  # `collections` would cost 1 ms

ENDS = frozenset(("done", "failed", "result"))
"""Types of the messages after which nothing follows."""

FAREWELL_S = 2.0
"""Within which a daemon that is away should have come back to hear who has left."""

RETURN_PAUSE_S = 0.02
"""Between two looks at a socket that refuses: its daemon was killed or hands over, and the next one starts."""


def passing(error: OSError, path: str) -> bool:
    """Return whether a daemon was there, so that the next may be on its way: it refuses, or died as we connected."""
    passes = isinstance(error, ConnectionError) and not isinstance(error, BrokenPeer)
    return passes and not address.is_other(path)


def unreachable(path: str, error: OSError) -> Unreachable:
    """Say in our words why the kernel did not connect us."""
    if (size := len(fsencode(path))) > address.LONGEST:
        return Unreachable(path, "too_long", f"it has {size} bytes, and may have {address.LONGEST}")
    match error:
        case BrokenPeer():
            return Unreachable(path, "foreign", str(error))
        case FileNotFoundError() | NotADirectoryError():
            return Unreachable(path, "absent")
        case PermissionError():
            return Unreachable(path, "permission")
        case ConnectionRefusedError() if address.is_other(path):
            return Unreachable(path, "foreign", "it is not a socket")
        case ConnectionRefusedError():
            return Unreachable(path, "refused")
        case _:
            return Unreachable(path, "lost", error.strerror or str(error))


class Line:
    """One connection that comes back by itself. For one thread at a time.

    When the daemon goes away, open streams are resumed as soon as it is back; after `timeout` seconds
    without it whatever waits raises Unreachable. Where there is no socket this is raised at once.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        name: str = "ingle",
        tags: Sequence[str] = (),
        timeout: float = 10.0,
        patience: float | None = None,
        returns: float | None = None,
    ) -> None:
        """`patience`: seconds that a daemon which was there may be away, if not `timeout` too; inf: for ever.

        `returns`: seconds for which one whose socket still stands there may refuse at first, if not `timeout`. What
        it has left removes that socket, if no other comes.
        """
        self.path = address.find(socket)
        self.timeout = timeout
        self.session = Session(name, version=__version__, tags=tags, patience=timeout)
        self._inbox: dict[int, deque[Message]] = {}
        self._heard: list[tuple[int, Message]] | None = None
        """While `hear` waits: what it will return."""
        self._dealer: Dealer | None = None
        self._dead: IngleError | None = None
        self.session.start(monotonic())
        until = monotonic() + (timeout if returns is None else returns)
        while self._dealer is None:
            try:
                self._dealer = Dealer(self.path)  # only a daemon that was there before is waited for
            except OSError as error:
                if not passing(error, self.path) or monotonic() >= until:
                    raise unreachable(self.path, error) from error
                sleep(RETURN_PAUSE_S)
        self.session.connected()
        try:
            while self.session.state != "open":
                self._turn(None)
        except BaseException:
            self._hang_up()
            raise
        if patience is not None:
            self.session.patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor to poll, or -1 while there is no connection."""
        return self._dealer.fileno() if self._dealer is not None else -1

    def request(self, op: str, body: Message, **options: Any) -> int:
        """Run a model; see Session.request."""
        return self._expect(self.session.request(op, body, **options))

    def attach(self, id: str, offset: int | None = None) -> int:
        """Take over the stream of a request from an offset on, or from where the daemon still has it."""
        return self._expect(self.session.attach(id, offset))

    def subscribe(self, topics: Sequence[str]) -> int:
        """Ask for events."""
        return self._expect(self.session.subscribe(topics))

    def hear(self, timeout: float | None, bell: int | None = None) -> list[tuple[int, Message]]:
        """Return all that has arrived for whatever ref, in order, waiting for something to happen.

        For who offers hooks, and asks nothing else on this line. `bell` is a descriptor that ends the waiting too.
        """
        self._heard = []
        self._turn(None if timeout is None else monotonic() + timeout, bell)
        heard, self._heard = self._heard, None
        return heard

    def flush(self) -> None:
        """Write what the session wants to say, as far as the socket takes it."""
        self._flush()

    def call(
        self,
        verb: str,
        args: Message | None = None,
        *,
        forever: bool = False,
        on_progress: Callable[[Message], None] | None = None,
    ) -> Any:
        """Ask the daemon itself and return its answer. Waits `timeout` at most, unless `forever`."""
        return self._answer(self._expect(self.session.call(verb, args or {})), forever, on_progress)

    def cancel(self, id: str) -> Any:
        """End a request of the same account."""
        return self._answer(self._expect(self.session.cancel(id)), False)

    def stop(self, ref: int) -> None:
        """Cancel what was opened under the ref; its end still arrives."""
        self.session.stop(ref)
        self._flush()

    def drop(self, ref: int) -> None:
        """Cancel what was opened under the ref and hear no more of it."""
        self._inbox.pop(ref, None)
        self.stop(ref)

    def next(self, ref: int, timeout: float | None = None) -> Message:
        """Return the next message for the ref, waiting for it. Raises Unreachable when none comes in time."""
        until = None if timeout is None else monotonic() + timeout
        inbox = self._inbox[ref]
        while not inbox:
            if until is not None and monotonic() >= until:
                raise Unreachable(self.path, "silent")
            self._turn(until)
        message = inbox.popleft()
        if message["t"] in ENDS:
            self._inbox.pop(ref, None)
        elif message["t"] in ("chunk", "event"):
            self.session.taken(ref)
            self._flush()
        return message

    def close(self, within: float = FAREWELL_S) -> None:
        """Take leave; what still runs and was not detached is cancelled. Closing twice is fine.

        Where something runs and the daemon is away, it has so many seconds to come back and hear of that.
        """
        try:
            if self._dead is None and not self._bye() and self.session.leaves():
                until = monotonic() + within
                while not self._bye() and monotonic() < until:
                    self._turn(until)
        except IngleError:
            pass  # it does not come back
        finally:
            if self._dealer is not None:
                self._dealer.close()
                self._dealer = None
            self._dead = self._dead or IngleError("the client is closed")

    def _bye(self) -> bool:
        """Take leave of the daemon; returns whether it is there."""
        self.session.bye()
        self._flush()
        return self.session.state == "open"

    def _expect(self, ref: int) -> int:
        self._inbox[ref] = deque()
        self._flush()
        return ref

    def _answer(self, ref: int, forever: bool, on_progress: Callable[[Message], None] | None = None) -> Any:
        try:
            while (message := self.next(ref, None if forever else self.timeout))["t"] == "progress":
                if on_progress is not None:
                    on_progress(message)
        finally:
            self._inbox.pop(ref, None)
            self.session.forget(ref)
        if message["t"] == "failed":
            raise from_failed(message)
        return message["value"]

    def _flush(self) -> None:
        """Write what can be written now; a broken connection is noticed by the next turn."""
        if self._dealer is None:
            return
        try:
            self._dealer.send_all(self.session.take())
        except OSError:
            self._hang_up()

    def _turn(self, until: float | None, bell: int | None = None) -> None:
        """Wait for the next thing to happen, at most until then, and do it."""
        if self._dead is not None:
            raise self._dead
        now = monotonic()
        if self.session.gave_up(now):
            raise Unreachable(self.path, "lost" if self._dealer is None else "silent")
        soonest = min((at for at in (until, self.session.deadline) if at is not None), default=None)
        if self._dealer is None:
            pause = self.session.retry_at if soonest is None else min(soonest, self.session.retry_at)
            sleep(max(0.0, pause - now))
            self._redial()
            return
        dealer = self._dealer
        try:
            dealer.send_all(self.session.take())
            if not dealer.wait(None if soonest is None else soonest - now, bell):
                return
            dealer.flush()
            arrived = dealer.receive()
        except BrokenPeer as error:
            raise self._die(unreachable(self.path, error)) from error
        except OSError:
            self._hang_up()
            return
        for frames in arrived:
            self._take(frames)

    def _take(self, frames: list[bytes]) -> None:
        try:
            if len(frames) != 1:
                raise ProtocolError(f"the daemon sent a message of {len(frames)} frames")
            arrivals = self.session.receive(frames[0])
        except IngleError as error:
            raise self._die(error) from error.__cause__
        for ref, message in arrivals:
            if self._heard is not None:
                self._heard.append((ref, message))
                continue
            inbox = self._inbox.get(ref)
            if inbox is not None:
                inbox.append(message)

    def _redial(self) -> None:
        try:
            self._dealer = Dealer(self.path)
        except OSError:
            self.session.disconnected(monotonic())
        else:
            self.session.connected()

    def _hang_up(self) -> None:
        if self._dealer is not None:
            self._dealer.close()
            self._dealer = None
        self.session.disconnected(monotonic())

    def _die(self, error: IngleError) -> IngleError:
        """What the other side did cannot be mended: every later use raises the same."""
        self._dead = error
        if self._dealer is not None:
            self._dealer.close()
            self._dealer = None
        return error
