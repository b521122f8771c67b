"""The machine is suspended, and comes back: what systemd-logind says of it goes to the core, and delays the machine.

Without a system bus, without logind on it, or without leave to delay it, the daemon works as before, and says so.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ingled.core import events as on
from ingled.core.events import Survival

if TYPE_CHECKING:
    from ingled.broker.logind import Conversation, News

log = logging.getLogger(__name__)

ADDRESS = "DBUS_SYSTEM_BUS_ADDRESS"
BUS_SOCKET = Path("/run/dbus/system_bus_socket")
READ_BYTES = 16 << 10
"""Read in one turn of the loop: somebody may send more than anybody wants to read."""
READ_FDS = 8
RETRY_S = 30.0
"""Between two attempts to reach a bus."""
ANSWER_S = 10.0
"""Seconds in which a bus must have said whether logind is there."""
IN_WORDS = {
    "off": "models are not made ready when the machine is suspended: %s",
    "unavailable": "models are not made ready when the machine is suspended, all else works: %s",
    "listening": "models are made ready when the machine is suspended, but it does not wait for that: %s",
    "ready": "models are made ready when the machine is suspended%s",
    "suspending": "the machine is about to be suspended%s",
}
"""What the log says of each state, and why."""
LONGEST_S = 120.0
"""Seconds, not counting those in which the machine was suspended, after which it is held to be back."""


class Suspend:
    """Listens to logind, and keeps its inhibitor."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dispatch: Callable[[on.Event], None],
        memory: Callable[[], Survival],
    ) -> None:
        """`memory` tells what becomes of the memory in which models are now."""
        self._loop, self._dispatch, self._memory = loop, dispatch, memory
        self.state, self.why = "off", "the configuration says so"
        self._socket: socket.socket | None = None
        self._conversation: Conversation | None = None
        self._inhibitor: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._begun = False
        self._logged = self.state, self.why

    def describe(self) -> dict[str, str | None]:
        """Return what `status` shows."""
        return {"state": self.state, "why": self.why or None}

    def use(self, wanted: bool) -> None:
        """Listen from now on, or no more."""
        if wanted == (self.state != "off"):
            return
        if wanted:
            self._connect()
        else:
            self._hang_up("off", "the configuration says so")

    def close(self) -> None:
        """Let the machine be suspended without us."""
        self._hang_up("off", "the daemon ends")

    def allow(self) -> None:
        """Let go of the inhibitor: logind goes on when everybody has."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._let_go()

    # ------------------------------------------------------------ the bus

    def _connect(self) -> None:
        self._timer = None
        address = os.environ.get(ADDRESS, "")
        if not address and not BUS_SOCKET.exists():
            self._lost("there is no system bus")
            return
        try:
            from ingled.broker.logind import Conversation, bus_path
        except ImportError as error:
            self._lost(f"it needs the package jeepney ({error})")
            return
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        path = str(BUS_SOCKET)
        try:
            path = bus_path(address) if address else path
            one.connect(path)
        except (OSError, ValueError) as error:
            one.close()
            self._lost(_unreachable(path, error))
            return
        self._socket, self._conversation = one, Conversation()
        self.state, self.why = "unavailable", "the system bus has not answered yet"  # it will, or that is told
        self._loop.add_reader(one, self._read)
        self._timer = self._loop.call_later(ANSWER_S, self._lost, f"the system bus said nothing in {ANSWER_S:.0f} s")
        self._send()

    def _read(self) -> None:
        one, conversation = self._socket, self._conversation
        assert one is not None and conversation is not None, "nobody reads without them"
        try:
            data, fds, _, _ = socket.recv_fds(one, READ_BYTES, READ_FDS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"the system bus has gone: {error.strerror or error}")
            return
        if not data:
            self._lost("the system bus has closed the connection")
            return
        from ingled.broker.logind import BadBus

        try:
            news = conversation.take(data, fds)
        except BadBus as error:
            self._lost(f"the system bus: {error}")
            return
        for one_news in news:
            self._hear(one_news)
        self._send()

    def _send(self) -> None:
        if self._socket is None or self._conversation is None or not (data := self._conversation.to_send):
            return
        try:
            sent = self._socket.send(data)
        except OSError as error:
            self._lost(f"the system bus takes nothing: {error.strerror or error}")
            return
        del data[:sent]  # some hundred bytes; what did not fit goes with the next

    def _hear(self, news: "News") -> None:
        from ingled.broker.logind import Absent, Listening, Resumed, Suspends

        match news:
            case Listening():
                self._answered()
                self._let_go()
                self._inhibitor = news.fd
                why = f"logind lets nobody here delay it: {news.why}"
                self._say(*("listening", why) if news.fd is None else ("ready", ""))
            case Absent():
                self._answered()
                self._end("logind has gone")
                self._let_go()
                self._say("unavailable", "there is no logind on the system bus")
            case Suspends():
                self._begin(news.within_s)
            case Resumed():
                self._end("")

    def _answered(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ the machine

    def _begin(self, within_s: float) -> None:
        if self._begun:
            return
        self._begun = True
        self._say("suspending", "")
        self._late = self._loop.call_later(within_s, self._too_late, within_s)
        self._dispatch(on.SuspendBegins(self._loop.time(), self._memory(), within_s))
        self._timer = self._loop.call_later(LONGEST_S, self._forgotten)

    def _forgotten(self) -> None:
        self._end(f"nobody has said so for {LONGEST_S:.0f} s")
        if self._conversation is not None:
            self._conversation.delay()
            self._send()

    def _too_late(self, within_s: float) -> None:
        log.warning("models were not ready in %.1f s for the machine to be suspended: logind does not wait", within_s)
        self.allow()

    def _end(self, why: str) -> None:
        if not self._begun:
            return
        self._begun = False
        if why:
            log.warning("the machine is held to be back: %s", why)
        self._answered()
        self.allow()
        self._dispatch(on.SuspendEnds(self._loop.time()))

    def _let_go(self) -> None:
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None

    # ------------------------------------------------------------ what becomes of it

    def _lost(self, why: str) -> None:
        """There is nobody to listen to for now: try again in a while."""
        self._hang_up("unavailable", why)
        self._timer = self._loop.call_later(RETRY_S, self._connect)

    def _hang_up(self, state: str, why: str) -> None:
        self._end(why)
        self._answered()
        self._let_go()
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._say(state, why)

    def _say(self, state: str, why: str) -> None:
        if (state, why) != self._logged:
            log.info(IN_WORDS[state], why)
        self.state, self.why = self._logged = state, why


def _unreachable(path: str, error: OSError | ValueError) -> str:
    """Return in words why there is no bus."""
    match error:
        case FileNotFoundError():
            return f"there is no system bus: {path} does not exist"
        case ConnectionRefusedError():
            return f"there is no system bus: nobody listens at {path}"
        case OSError():
            return f"the system bus cannot be reached: {path}: {error.strerror or error}"
    return f"the system bus cannot be reached: {error}"
