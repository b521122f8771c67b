"""What is said with systemd-logind over D-Bus: bytes and descriptors in, bytes and news out. It opens nothing.

The bus is the machine's, and everybody may send to us over it: only what the bus itself says, and whoever owns logind's
name, is listened to. The bus vouches for the sender of each message.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageType, Properties, message_bus, new_method_call
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_bus
from jeepney.low_level import Parser

NAME, PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER = DBusAddress(PATH, NAME, "org.freedesktop.login1.Manager")
BUS = "org.freedesktop.DBus"
MESSAGE_BYTES = 16 << 10
"""Of a message at most; those that are expected have some hundred."""
STRANGERS = 256
"""Messages that nobody has asked for: more of them are a flood."""
LOOSE_FDS = 4
"""Descriptors that may have come before their message."""
DELAY_S = 5.0
"""Seconds by which logind lets itself be delayed, if it does not say."""


class BadBus(Exception):
    """What came is not what a bus says, or too much of it."""


@dataclass(frozen=True, slots=True)
class Listening:
    """News: logind is heard; `fd` delays it, unless it refused that, and why."""

    fd: int | None
    why: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Absent:
    """News: there is no logind on this bus, for now."""


@dataclass(frozen=True, slots=True)
class Suspends:
    """News: the machine is about to be suspended, in so many seconds at the latest."""

    within_s: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """News: it is back."""


News = Listening | Absent | Suspends | Resumed
Answer = Callable[[Message, Sequence[int]], list[News]]


class Conversation:
    """One connection to a bus."""

    def __init__(self) -> None:
        self._auth, self._parser, self._serials = Authenticator(enable_fds=True), Parser(), count(1)
        self.to_send = bytearray(self._auth.data_to_send() or b"")
        """Bytes for the bus; whoever sends them takes them out."""
        self._asked: dict[int, Answer] = {}
        self._owner = ""
        self._delay_s = DELAY_S
        self._strangers = 0

    def take(self, data: bytes, fds: Sequence[int]) -> list[News]:
        """Take in what has come. Raises BadBus; the connection is of no use then."""
        try:
            return self._take(data, fds)
        except BadBus:
            raise
        except Exception as error:  # whatever its library thinks of bytes that are no D-Bus
            raise BadBus(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let go of descriptors that have come and that nobody has asked for."""
        for fd in self._parser.fds:
            os.close(fd)
        self._parser.fds = []

    def _take(self, data: bytes, fds: Sequence[int]) -> list[News]:
        if not self._auth.authenticated:
            for fd in fds:
                os.close(fd)
            self._auth.feed(data)
            self.to_send += self._auth.data_to_send() or b""
            if self._auth.authenticated:
                self.to_send += BEGIN
                self._ask(message_bus.Hello(), self._greeted)
            return []
        self._parser.add_data(data, fds)
        news: list[News] = []
        while True:
            size = self._parser.bytes_desired() + self._parser.buf.bytes_buffered
            if size > MESSAGE_BYTES:
                raise BadBus(f"a message of {size} bytes")
            waiting = list(self._parser.fds)
            message = self._parser.get_next_message()
            if message is None:
                break
            mine = waiting[: message.header.fields.get(HeaderFields.unix_fds, 0)]
            try:
                news += self._hear(message, mine)
            finally:
                kept = [one.fd for one in news if isinstance(one, Listening)]
                for fd in mine:
                    if fd not in kept:
                        os.close(fd)
        if len(self._parser.fds) > LOOSE_FDS:
            raise BadBus("descriptors without a message")
        return news

    def _ask(self, message: Message, answer: Answer) -> None:
        serial = next(self._serials)
        self._asked[serial] = answer
        self.to_send += message.serialise(serial)

    def _hear(self, message: Message, fds: Sequence[int]) -> list[News]:
        fields, kind = message.header.fields, message.header.message_type
        sender = fields.get(HeaderFields.sender, "")
        if sender in (BUS, self._owner) and kind in (MessageType.method_return, MessageType.error):
            answer = self._asked.pop(fields.get(HeaderFields.reply_serial, 0), None)
            return answer(message, fds) if answer is not None else []
        if kind is MessageType.signal and sender in (BUS, self._owner):
            return self._signal(fields.get(HeaderFields.member, ""), sender, message.body)
        self._strangers += 1
        if self._strangers > STRANGERS:
            raise BadBus("a flood of messages that nobody has asked for")
        return []

    def _signal(self, member: str, sender: str, body: Sequence[object]) -> list[News]:
        if sender == BUS and member == "NameOwnerChanged" and body[0] == NAME:
            return self._owned(str(body[2]))
        if sender == self._owner and member == "PrepareForSleep":
            if body[0]:
                return [Suspends(self._delay_s)]
            self.delay()
            return [Resumed()]
        return []

    def _greeted(self, message: Message, fds: Sequence[int]) -> list[News]:
        changed = MatchRule(type="signal", sender=BUS, interface=BUS, member="NameOwnerChanged")
        changed.add_arg_condition(0, NAME)
        sleeps = MatchRule(
            type="signal", sender=NAME, interface=MANAGER.interface, member="PrepareForSleep", path=MANAGER.object_path
        )
        for rule in (changed, sleeps):
            self._ask(message_bus.AddMatch(rule), lambda message, fds: [])
        self._ask(message_bus.GetNameOwner(NAME), self._named)
        return []

    def _named(self, message: Message, fds: Sequence[int]) -> list[News]:
        return self._owned("" if message.header.message_type is MessageType.error else str(message.body[0]))

    def _owned(self, owner: str) -> list[News]:
        """Logind has this unique name now, or is not there."""
        if owner == self._owner and owner:
            return []
        self._owner = owner
        if not owner:
            return [Absent()]
        self._ask(Properties(MANAGER).get("InhibitDelayMaxUSec"), self._bounded)
        self.delay()
        return []

    def _bounded(self, message: Message, fds: Sequence[int]) -> list[News]:
        if message.header.message_type is MessageType.method_return:
            self._delay_s = int(message.body[0][1]) / 1e6
        return []

    def delay(self) -> None:
        """Ask that the machine is suspended only when we allow it, or when logind has waited for long enough."""
        said = ("sleep", "ingled", "models take out of the GPU what it would lose", "delay")
        self._ask(new_method_call(MANAGER, "Inhibit", "ssss", said), self._delayed)

    def _delayed(self, message: Message, fds: Sequence[int]) -> list[News]:
        if message.header.message_type is MessageType.error:
            why = str(message.body[0]) if message.body else str(message.header.fields.get(HeaderFields.error_name))
            return [Listening(None, " ".join(why.split())[:200], self._delay_s)]
        return [Listening(fds[0], "", self._delay_s)]


def bus_path(address: str) -> str:
    """Return the socket at the first address that is one. Raises ValueError."""
    try:
        return str(get_bus(address))
    except (RuntimeError, StopIteration) as error:
        raise ValueError(f"{address}: no address of a unix socket") from error
