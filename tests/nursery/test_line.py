"""The private link's end in a nursery, hook host or keeper."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingle.zmtp import Zmtp
from ingled import line as line_module
from ingled import link
from ingled.line import Line

DEADLINE_S = 30.0


class Broker:
    """The other end, step by step."""

    def __init__(self, folder: Path) -> None:
        (folder / link.SECRET_FILE).write_text("secret")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.settimeout(DEADLINE_S)
        self.server.bind(str(folder / link.SOCKET_FILE))
        self.server.listen()
        self.connection, self.protocol = self.server, Zmtp(1 << 20)

    def accept(self) -> None:
        """Take the next connection, and say nothing."""
        self.connection, _ = self.server.accept()
        self.connection.settimeout(DEADLINE_S)
        self.protocol = Zmtp(1 << 20, kind=b"ROUTER", peers=frozenset({b"DEALER"}))

    def say(self) -> None:
        """Send what the protocol has to say. Nothing is not sent: that fails too, once the other end has closed."""
        if self.protocol.outgoing:
            self.connection.sendall(self.protocol.outgoing)
            self.protocol.outgoing.clear()

    def hear(self) -> list[link.FromPeer]:
        """Wait for something to come, and return what is complete by then."""
        data = self.connection.recv(1 << 16)
        assert data, "the connection has ended"
        return [link.decode_from_peer(frames[0]) for frames in self.protocol.receive(data)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.connection.close()
    broker.server.close()


def test_what_the_broker_said_before_its_end_is_read_although_nothing_can_be_sent_any_more(
    broker: Broker, tmp_path: Path
) -> None:
    line = Line(tmp_path, "keeper")
    line.tick()
    broker.accept()
    came: list[link.FromPeer] = []
    while not came:
        broker.say()
        assert line.receive() == []
        with contextlib.suppress(TimeoutError):
            broker.connection.settimeout(0.01)
            came = broker.hear()
    assert isinstance(came[0], link.Attach)
    broker.protocol.send([link.encode(link.Stop())])
    broker.say()
    broker.connection.close()
    for _ in range(2):
        line.send(link.HostEnded(1, "signal 9"))
    assert line.receive() == [link.Stop()]
    line.close()


def test_who_leaves_before_the_handshake_is_over_says_its_last_words(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "LINGER_S", DEADLINE_S)
    line = Line(tmp_path, "keeper")
    line.tick()
    broker.accept()
    ended = link.HostEnded(1, "signal 9", ["why"])
    line.send(ended)
    came: list[link.FromPeer] = []

    def shake_hands() -> None:
        while ended not in came:
            broker.say()
            came.extend(broker.hear())

    with_time = threading.Thread(target=shake_hands)
    with_time.start()
    line.leave()
    with_time.join()
    assert isinstance(came[0], link.Attach) and came[1:] == [ended]
    assert line.connection is None


def test_what_a_connection_held_when_it_broke_is_told_to_the_next_one(broker: Broker, tmp_path: Path) -> None:
    line = Line(tmp_path, "keeper")
    line.tick()
    broker.accept()
    ended = link.HostEnded(1, "signal 9", ["why"])
    line.send(ended)
    line.send(link.Alive())
    broker.connection.close()  # in the middle of the handshake
    while line.connection is not None:
        line.receive()
    line.tick()
    broker.accept()
    came: list[link.FromPeer] = []
    while ended not in came:
        broker.say()
        line.receive()
        with contextlib.suppress(TimeoutError):
            broker.connection.settimeout(0.01)
            came += broker.hear()
    assert isinstance(came[0], link.Attach) and came[1:] == [ended]
    line.close()
