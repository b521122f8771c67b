"""Hostile and careless clients: nobody else is harmed, nothing grows without bound, and each is told what it can be."""

import contextlib
import errno
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from ingle.wire.limits import FRAME_BYTES
from ingle.zmtp import Dealer, Zmtp, header
from ingled import link
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

from bench.attacks import VALID

GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"NULL".ljust(20, b"\0") + b"\0" * 32
READY = b"\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER"


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture() as running, Wire(running.socket) as client:
        client.read(client.ask("warm"))
        yield running


def connect(daemon: DaemonFixture) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(str(daemon.socket))
    one.settimeout(90)
    return one


def closed_by_peer(one: socket.socket) -> bool:
    try:
        while one.recv(65536):
            pass
    except OSError as error:
        return error.errno in (errno.ECONNRESET, errno.EPIPE)
    return True


def status(daemon: DaemonFixture) -> dict[str, Any]:
    with Wire(daemon.socket) as client:
        found: dict[str, Any] = client.call("status")
        return found


def test_a_reader_of_many_streams_who_stops_gets_everything_later(daemon: DaemonFixture) -> None:
    text = " ".join(f"{i:0>1000}" for i in range(250))
    with Wire(daemon.socket) as client:
        ids = [client.ask(text, credit=256) for _ in range(20)]
        wait_until(lambda: status(daemon)["requests"]["running"] == 0)
        got = dict.fromkeys(ids, "")
        ended = 0
        while ended < len(ids):
            message = client.receive()
            if message["t"] == "chunk":
                got[message["id"]] += message["x"]
            ended += message["t"] == "done"
        assert set(got.values()) == {text}
        assert status(daemon)["dropped"]["clogged"] == 0


class Unread:
    """A connection that says much and reads nothing, until it is `read`."""

    def __init__(self, daemon: DaemonFixture, message: dict[str, Any], count: int) -> None:
        self._one, self._protocol = connect(daemon), Zmtp()
        hello = {"t": "hello", "protocol": [1, 1], "client": {"name": "unread"}}
        said = [msgpack.packb(one) for one in (hello, *(message | {"ref": ref} for ref in range(count)))]
        self._said = b"".join((GREETING, READY, *(part for one in said for part in (header(0, len(one)), one))))
        self.taken = 0
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while self.taken < len(self._said):
                self.taken += self._one.send(self._said[self.taken : self.taken + 4096])

    def until_no_more_is_taken(self) -> None:
        """Wait until nothing was taken for a while, or all."""
        seen = -1
        while seen < self.taken < len(self._said):
            seen = self.taken
            time.sleep(0.5)  # of a fast machine: a slow one only stops too early, with less unread

    @property
    def all_taken(self) -> bool:
        return self.taken == len(self._said)

    def read(self, kind: str, count: int) -> list[int]:
        """Return the refs of the first so many messages of a kind."""
        found: list[int] = []
        while len(found) < count:
            for frames in self._protocol.receive(self._one.recv(1 << 20)):
                message = msgpack.unpackb(frames[0])
                if message["t"] == kind:
                    found.append(message["ref"])
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._one.shutdown(socket.SHUT_RDWR)
        self._sender.join()
        self._one.close()


def test_who_never_reads_its_answers_is_not_heard_and_gets_all_of_them_later(daemon: DaemonFixture) -> None:
    before, count = status(daemon), 40_000
    one = Unread(daemon, {"t": "call", "verb": "models"}, count)
    one.until_no_more_is_taken()
    after = status(daemon)
    assert not one.all_taken
    assert after["daemon"]["rss_bytes"] - before["daemon"]["rss_bytes"] < 4e6
    assert one.read("result", count) == list(range(count))
    assert after["dropped"]["clogged"] == before["dropped"]["clogged"]
    one.close()


def test_whole_answers_that_are_never_read_do_not_grow(daemon: DaemonFixture) -> None:
    before, count = status(daemon), 2000
    body = {"messages": [{"role": "user", "content": "x" * 10_000}]}
    one = Unread(daemon, {"t": "request", "op": "chat", "stream": False, "body": body}, count)
    one.until_no_more_is_taken()
    assert not one.all_taken
    wait_until(lambda: status(daemon)["requests"]["running"] == 0)
    after = status(daemon)
    assert after["requests"]["done_total"] - before["requests"]["done_total"] < count / 2
    one.close()
    wait_until(lambda: status(daemon)["requests"]["ending"] == 0)
    assert status(daemon)["requests"]["done_total"] - before["requests"]["done_total"] < count / 2


def test_a_thousand_requests_that_are_never_read_end_with_their_client(daemon: DaemonFixture) -> None:
    client = Wire(daemon.socket)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    for ref in range(1000):
        client.send({"t": "request", "ref": ref, "op": "chat", "body": body, "credit": 0})
    assert client.until("failed")[-1]["code"] == "over_limit"
    client.close()
    wait_until(lambda: status(daemon)["requests"]["ending"] + status(daemon)["requests"]["running"] == 0)


def test_bye_is_heard_though_the_socket_is_closed_at_once(daemon: DaemonFixture) -> None:
    for _ in range(100):
        client = Wire(daemon.socket)
        client.send({"t": "request", "ref": 1, "op": "chat", "grace_ms": 60_000, "credit": 0,
                     "body": {"messages": [{"role": "user", "content": "hi"}]}})  # fmt: skip
        client.send({"t": "bye"})
        client.close()
    with Wire(daemon.socket) as other:
        wait_until(lambda: other.call("requests")["requests"] == [])


@pytest.mark.parametrize("size", [1000, FRAME_BYTES - 200])
def test_a_long_wrong_name_is_told_back_shortened(daemon: DaemonFixture, size: int) -> None:
    with Wire(daemon.socket) as client:
        for message in (
            {"t": "request", "ref": 1, "op": "chat", "body": {}, "k" * size: 1},
            {"t": "request", "ref": 1, "op": "chat", "body": {"k" * (size - 50): 1}},
            {"t": "k" * size, "ref": 1},
            {"t": "call", "ref": 1, "verb": "status", "args": {"k" * (size - 50): 1}},
        ):
            client.send_bytes(msgpack.packb(message))
            failed = client.receive()
            assert failed["t"] == "failed"
            assert len(msgpack.packb(failed)) < 2000


def test_paths_that_pretend_to_be_errors_harm_nobody(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        for role in ("' - at `$.x[²].y", " - at `$.messages[0].role[9]", "`" * 10):
            body = {"messages": [{"role": role, "content": "x"}], "x": [1, 2, 3]}
            client.send({"t": "request", "ref": 5, "op": "chat", "body": body})
            assert client.receive()["ref"] == 5


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("zeros", bytes(1 << 20)),
        ("silence", b""),
        ("half a greeting", GREETING[:20]),
        ("a huge frame", GREETING + READY + b"\2" + b"\x7f" + b"\xff" * 7),
        ("a frame over four times the limit", GREETING + READY + b"\2" + (4 * FRAME_BYTES + 1).to_bytes(8, "big")),
        ("a bad command", GREETING + b"\4\xff" + b"x" * 255),
    ],
)
def test_what_is_not_the_protocol_is_closed(daemon: DaemonFixture, name: str, data: bytes) -> None:
    with connect(daemon) as one:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            one.sendall(data)
        assert closed_by_peer(one), name
    assert status(daemon)["daemon"]["name"] == "ingled"


def test_messages_that_never_end_are_closed_and_take_no_memory(daemon: DaemonFixture) -> None:
    before = status(daemon)["daemon"]["rss_bytes"]
    for part in (b"\1\0", b"\1\xff" + bytes(255), b"\3" + FRAME_BYTES.to_bytes(8, "big") + bytes(FRAME_BYTES)):
        with connect(daemon) as one:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                one.sendall(GREETING + READY)
                for _ in range(1000):
                    one.sendall(part)
            assert closed_by_peer(one)
    assert status(daemon)["daemon"]["rss_bytes"] - before < 60e6


def test_a_zmtp_1_peer_has_no_identity_and_is_dropped(daemon: DaemonFixture) -> None:
    with connect(daemon) as one:
        one.sendall(b"\x01\x00" + b"\x0a\x00\x81\xa1t\xa5hello")
        assert closed_by_peer(one)


def test_a_forged_user_id_makes_nobody_somebody_else(daemon: DaemonFixture) -> None:
    """libzmq hands `User-Id` of the peer's READY to whoever asks a message for it."""
    forged = str(os.getuid() + 12345).encode()
    ready = READY[2:] + b"\x07User-Id" + len(forged).to_bytes(4, "big") + forged
    hello = msgpack.packb({"t": "hello", "protocol": [1, 1], "client": {"name": "x"}})
    with connect(daemon) as one:
        one.sendall(GREETING + header(4, len(ready)) + ready + header(0, len(hello)) + hello)
        protocol, messages = Zmtp(), list[list[bytes]]()
        while not messages:
            messages += protocol.receive(one.recv(65536))
    assert msgpack.unpackb(messages[0][0])["account"] == f"uid:{os.getuid()}"


def test_a_chosen_identity_changes_nothing(daemon: DaemonFixture) -> None:
    context = zmq.Context()
    try:
        one = context.socket(zmq.DEALER)
        one.linger = 0
        one.routing_id = b"somebody"
        one.connect(f"ipc://{daemon.socket}")
        hello = {"t": "hello", "protocol": [1, 1], "client": {"name": "x"}}
        one.send(msgpack.packb(hello))
        assert msgpack.unpackb(one.recv())["account"] == f"uid:{os.getuid()}"
        two = context.socket(zmq.DEALER)
        two.linger = 0
        two.routing_id = b"somebody"  # which must not give it what is meant for the first
        two.connect(f"ipc://{daemon.socket}")
        two.send(msgpack.packb(hello))
        assert msgpack.unpackb(two.recv())["t"] == "welcome"
        one.send(msgpack.packb({"t": "call", "ref": 1, "verb": "status"}))
        two.send(msgpack.packb({"t": "call", "ref": 2, "verb": "status"}))
        assert msgpack.unpackb(one.recv())["ref"] == 1
        assert msgpack.unpackb(two.recv())["ref"] == 2
        one.close()
        two.close()
    finally:
        context.term()


def test_random_and_mutated_messages_are_answered_or_dropped(daemon: DaemonFixture, chance: random.Random) -> None:
    with Wire(daemon.socket) as client:
        for _ in range(3000):
            data = bytearray(msgpack.packb(chance.choice(VALID)))
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            client.send_bytes(bytes(data) if chance.random() < 0.9 else chance.randbytes(chance.randrange(200)))
            if chance.random() < 0.05:
                client.send_bytes(bytes(data), b"more", b"frames")
    assert status(daemon)["daemon"]["name"] == "ingled"
    assert "Traceback" not in daemon.log.read_text()


def test_hundreds_of_connections_come_and_go(daemon: DaemonFixture) -> None:
    connections = status(daemon)["connections"]
    before = len(os.listdir(f"/proc/{status(daemon)['daemon']['pid']}/fd"))
    for _ in range(3):
        many = [Wire(daemon.socket) for _ in range(300)]
        for one in many:
            one.close()
    wait_until(lambda: status(daemon)["connections"] <= connections)
    wait_until(lambda: len(os.listdir(f"/proc/{status(daemon)['daemon']['pid']}/fd")) <= before + 5)


def test_a_link_in_place_of_the_runtime_folder_is_not_followed(tmp_path: Path) -> None:
    daemon = DaemonFixture()
    precious = tmp_path / "workers"
    precious.mkdir()
    (precious / "thesis.txt").write_text("precious")
    Path(f"{daemon.socket}.d").symlink_to(tmp_path)
    with pytest.raises(RuntimeError, match="not a folder"):
        daemon.start()
    assert (precious / "thesis.txt").read_text() == "precious"
    daemon.close()


def test_more_connections_than_descriptors_wait_and_the_daemon_lives() -> None:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("needs prlimit (util-linux)")
    with DaemonFixture(prefix=(prlimit, "--nofile=256:256")) as daemon:
        many = []

        def one_more() -> bool:
            one = socket.socket(socket.AF_UNIX)
            many.append(one)
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.connect(str(daemon.socket))
                one.send(GREETING + READY)
            return "the next ones wait" in daemon.log.read_text()

        wait_until(one_more)
        for one in many:
            one.close()
        assert status(daemon)["dropped"]["held_back"] > 0
        with Wire(daemon.socket) as client:
            assert client.read(client.ask("still here"))[0] == "still here"


def test_who_has_not_the_secret_of_the_private_socket_is_asked_once_more_and_told_nothing() -> None:
    with DaemonFixture() as daemon:
        runtime = Path(f"{daemon.socket}.d")
        dealer = Dealer(str(runtime / link.SOCKET_FILE), max_frame=link.FRAME_BYTES)
        for _ in range(5):
            dealer.send(link.encode(link.Attach("not the secret", "worker", os.getpid())))
            dealer.send(link.encode(link.Alive()))
        secret = (runtime / link.SECRET_FILE).read_text().strip()
        dealer.send(link.encode(link.Attach(secret, "worker", os.getpid())))
        told: list[link.ToPeer] = []
        while not any(isinstance(message, link.Stop) for message in told):
            assert dealer.wait(30), told
            dealer.flush()
            told += [link.decode_to_peer(frames[-1]) for frames in dealer.receive()]
        dealer.close()
        assert [type(message) for message in told] == [link.Who, link.Lease, link.Stop]
        assert daemon.log.read_text().count("has not the start-up secret") == 5
