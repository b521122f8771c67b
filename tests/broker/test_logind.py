# ruff: noqa: E402  # the package that it needs is looked for first
"""What is said with logind: bytes of a bus, good ones and bad ones, and descriptors that nobody has asked for."""

import os
import socket
from collections.abc import Iterator

import pytest

jeepney = pytest.importorskip("jeepney", reason="the environment is older than its lock: make setup")

from ingled.broker.logind import (
    BUS,
    MANAGER,
    NAME,
    STRANGERS,
    Absent,
    BadBus,
    Conversation,
    Listening,
    Resumed,
    Suspends,
)
from jeepney import HeaderFields, Message, MessageType, new_error, new_method_return, new_signal
from jeepney.low_level import Parser

OWNER, STRANGER = ":1.7", ":1.66"


class Bus:
    """The other end: it reads what is asked, and answers as it is told."""

    def __init__(self) -> None:
        self.talk = Conversation()
        assert self.sent().startswith(b"\0AUTH EXTERNAL ")
        self.talk.take(b"OK 0123\r\n", [])
        assert self.sent() == b"NEGOTIATE_UNIX_FD\r\n"
        self.talk.take(b"AGREE_UNIX_FD\r\n", [])
        head, _, rest = self.sent().partition(b"\r\n")
        assert head == b"BEGIN"
        self.parser = Parser()
        self.asked = self.parser.feed(rest)
        self.serial = 0

    def sent(self) -> bytes:
        data = bytes(self.talk.to_send)
        self.talk.to_send.clear()
        return data

    def take(self, message: Message, sender: str, fds: list[int] | None = None) -> list[object]:
        message.header.fields[HeaderFields.sender] = sender
        if fds:
            message.header.fields[HeaderFields.unix_fds] = len(fds)
        self.serial += 1
        news = self.talk.take(message.serialise(self.serial), fds or [])
        self.asked += self.parser.feed(self.sent())
        return list(news)

    def called(self, member: str) -> Message:
        """Take out the first call of this name that has come."""
        (found, *_) = [one for one in self.asked if one.header.fields[HeaderFields.member] == member]
        self.asked.remove(found)
        return found

    def greet(self, owner: str = OWNER) -> None:
        self.take(new_method_return(self.called("Hello"), "s", (":1.5",)), BUS)
        rules = [self.called("AddMatch").body[0] for _ in range(2)]
        assert any("member='PrepareForSleep'" in rule and f"sender='{NAME}'" in rule for rule in rules)
        who = self.called("GetNameOwner")
        if owner:
            assert self.take(new_method_return(who, "s", (owner,)), BUS) == []
        else:
            assert self.take(new_error(who, f"{BUS}.Error.NameHasNoOwner"), BUS) == [Absent()]

    def bound(self, seconds: float) -> None:
        (value,) = [(("t", int(seconds * 1e6)),)]
        assert self.take(new_method_return(self.called("Get"), "v", value), OWNER) == []

    def inhibit(self) -> list[object]:
        call = self.called("Inhibit")
        assert call.body[0] == "sleep" and call.body[3] == "delay"
        reply = new_method_return(call, "h", (0,))
        reply.header.fields[HeaderFields.unix_fds] = 1
        return self.take_raw(reply, [os.open("/dev/null", os.O_RDONLY)])

    def take_raw(self, message: Message, fds: list[int]) -> list[object]:
        """Give it a message with descriptors, as bytes: `jeepney` numbers them while it packs."""
        from array import array

        message.header.fields[HeaderFields.sender] = OWNER
        message.body = (fds[0],)
        self.serial += 1
        return list(self.talk.take(message.serialise(self.serial, fds=array("i")), fds))


def prepare(going: bool) -> Message:
    return new_signal(MANAGER, "PrepareForSleep", "b", (going,))


@pytest.fixture
def bus() -> Iterator[Bus]:
    one = Bus()
    yield one
    one.talk.close()


def test_it_asks_for_a_delay_and_anew_after_each_time(bus: Bus) -> None:
    bus.greet()
    bus.bound(8)
    (heard,) = bus.inhibit()
    assert isinstance(heard, Listening) and heard.fd is not None and heard.delay_s == 8
    assert bus.take(prepare(True), OWNER) == [Suspends(8)]
    os.close(heard.fd)
    assert bus.take(prepare(False), OWNER) == [Resumed()]
    (again,) = bus.inhibit()
    assert isinstance(again, Listening) and again.fd is not None
    os.close(again.fd)


def test_who_may_not_delay_it_hears_it_all_the_same(bus: Bus) -> None:
    bus.greet()
    refused = new_error(bus.called("Inhibit"), f"{BUS}.Error.AccessDenied", "s", ("Permission denied",))
    assert bus.take(refused, OWNER) == [Listening(None, "Permission denied", 5.0)]
    assert bus.take(prepare(True), OWNER) == [Suspends(5.0)]


def test_only_who_owns_its_name_is_logind(bus: Bus) -> None:
    bus.greet()
    assert bus.take(prepare(True), STRANGER) == []
    changed = ("sss", (NAME, OWNER, STRANGER))
    said_by_a_stranger = new_signal(jeepney.message_bus, "NameOwnerChanged", *changed)
    assert bus.take(said_by_a_stranger, STRANGER) == []
    assert bus.take(prepare(True), STRANGER) == []
    reply = new_method_return(bus.called("Inhibit"), "h", (0,))
    fd = os.open("/dev/null", os.O_RDONLY)
    reply.header.fields[HeaderFields.sender] = STRANGER
    assert bus.take(new_signal(MANAGER, "PrepareForSleep", "b", (False,)), STRANGER) == []
    os.close(fd)


def test_logind_may_come_and_go(bus: Bus) -> None:
    bus.greet(owner="")
    changed = new_signal(jeepney.message_bus, "NameOwnerChanged", "sss", (NAME, "", OWNER))
    assert bus.take(changed, BUS) == []
    (heard,) = bus.inhibit()
    assert isinstance(heard, Listening) and heard.fd is not None
    os.close(heard.fd)
    assert bus.take(new_signal(jeepney.message_bus, "NameOwnerChanged", "sss", (NAME, OWNER, "")), BUS) == [Absent()]
    assert bus.take(prepare(True), OWNER) == [], "that name is nobody's now"


def test_descriptors_that_nobody_asked_for_are_closed(bus: Bus) -> None:
    bus.greet()
    mine, theirs = socket.socketpair()
    with mine:
        gift = new_signal(MANAGER, "Gift", "h", (theirs.fileno(),))
        gift.header.fields[HeaderFields.sender] = STRANGER
        from array import array

        data = gift.serialise(9, fds=array("i"))
        assert bus.talk.take(data, [theirs.detach()]) == []
        assert mine.recv(1) == b"", "the other end is closed"


def test_a_flood_and_what_is_no_dbus_end_the_connection(bus: Bus) -> None:
    bus.greet()
    with pytest.raises(BadBus, match="nobody has asked for"):
        for _ in range(STRANGERS + 1):
            bus.take(prepare(True), STRANGER)
    for data in (b"x" * 64, b"l\1\0\1" + b"\xff" * 60, b"l\4\1\1\0\0\0\0\1\0\0\0\xff\xff\0\0"):
        fresh = Bus()
        with pytest.raises(BadBus):
            fresh.talk.take(data, [])
    other = Conversation()
    with pytest.raises(BadBus):
        other.take(b"REJECTED EXTERNAL\r\n", [])


def test_a_large_message_is_not_waited_for(bus: Bus) -> None:
    bus.greet()
    large = new_signal(MANAGER, "PrepareForSleep", "s", ("x" * 40_000,))
    large.header.fields[HeaderFields.sender] = OWNER
    with pytest.raises(BadBus, match="a message of 40"):
        bus.talk.take(large.serialise(9)[:64], [])
    assert MessageType.signal is large.header.message_type
