"""ZMTP in pure Python, against libzmq and against everything that is not ZMTP."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from time import monotonic

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from ingle.wire.limits import FRAME_BYTES
from ingle.zmtp import COMMAND, GREETING, BrokenPeer, Dealer, Frames, Zmtp

READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
DEADLINE = 60_000


def receive(dealer: Dealer, count: int = 1) -> list[Frames]:
    until = monotonic() + DEADLINE / 1000
    messages: list[Frames] = []
    while len(messages) < count:
        assert dealer.wait(until - monotonic()), "nothing came"
        dealer.flush()
        messages += dealer.receive()
    return messages


@pytest.fixture
def router(folder: Path) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.RCVTIMEO, DEADLINE)
        router.bind(f"ipc://{folder}/s")
        yield router


def test_messages_go_both_ways(router: "zmq.Socket[bytes]", folder: Path) -> None:
    dealer = Dealer(f"{folder}/s")
    dealer.send(b"one", b"", b"two")  # before the handshake: it waits
    assert not dealer.wait(0.0) or dealer.receive() == []
    while not router.poll(0):
        dealer.wait(0.1)
        dealer.receive()
    peer, *frames = router.recv_multipart()
    assert frames == [b"one", b"", b"two"]
    router.send_multipart([peer, b"a", b"b" * 300])
    assert receive(dealer) == [[b"a", b"b" * 300]]
    dealer.close()
    dealer.close()


def test_several_messages_leave_together(router: "zmq.Socket[bytes]", folder: Path) -> None:
    dealer = Dealer(f"{folder}/s")
    dealer.send_all([b"one", b""])
    dealer.send_all([])
    dealer.send_all([b"two" * 1000])
    got: list[bytes] = []
    while len(got) < 3:
        dealer.wait(0.01)
        dealer.receive()
        while router.poll(0):
            got.append(router.recv_multipart()[1])
    assert got == [b"one", b"", b"two" * 1000]
    dealer.close()


def test_heartbeats_are_answered(router: "zmq.Socket[bytes]", folder: Path) -> None:
    router.setsockopt(zmq.HEARTBEAT_IVL, 20)
    for timeout_ms in (250, 2500, 25_000):  # a process that is held up for so long is late, and gets more time
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, timeout_ms)
        router.bind(f"ipc://{folder}/{timeout_ms}")
        with contextlib.closing(Dealer(f"{folder}/{timeout_ms}")) as dealer, contextlib.suppress(OSError):
            dealer.send(b"hi")
            until = monotonic() + 1.5 * timeout_ms / 1000  # without PONG the ROUTER would hang up before that
            while monotonic() < until:
                if dealer.wait(0.01):
                    assert dealer.receive() == []
            router.send_multipart([router.recv_multipart()[0], b"there"])
            assert receive(dealer) == [[b"there"]]
            return
    pytest.fail("the ROUTER has hung up each time")


def test_large_frames_pass(router: "zmq.Socket[bytes]", folder: Path) -> None:
    dealer = Dealer(f"{folder}/s")
    large = bytes(FRAME_BYTES)
    dealer.send(large)
    while not router.poll(0):
        dealer.wait(0.1)
        dealer.flush()
        dealer.receive()
    peer, frame = router.recv_multipart()
    assert frame == large
    router.send_multipart([peer, large])
    assert receive(dealer) == [[large]]
    dealer.close()


def test_a_peer_that_leaves_is_noticed(router: "zmq.Socket[bytes]", folder: Path) -> None:
    dealer = Dealer(f"{folder}/s")
    router.close(0)
    with pytest.raises(OSError):
        for _ in range(100):
            dealer.wait(1.0)
            dealer.receive()
    dealer.close()


def test_connect_errors_are_the_kernels_own(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Dealer(f"{folder}/nothing")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{folder}/dead")
    with pytest.raises(ConnectionRefusedError):
        Dealer(f"{folder}/dead")


def test_a_full_backlog_is_waited_for(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(f"{folder}/s")
        server.listen(0)
        first.connect(f"{folder}/s")
        accept = Timer(0.1, lambda: server.accept()[0].close())
        accept.start()
        Dealer(f"{folder}/s").close()
        accept.join()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\xff" + bytes(8) + b"\x7e",
        GREETING[:10] + b"\x01" + GREETING[11:],
        GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
        GREETING + b"\x00\x01x",
        GREETING + b"\x04\x05\x04PING",
        GREETING + b"\x04\x00",
        GREETING + b"\x04\x0a\x05ERROR\x03bad",
        GREETING + READY + b"\xf0\x01x",
        GREETING + READY + b"\x02" + (FRAME_BYTES + 1).to_bytes(8, "big"),
        GREETING + READY + b"\x02" + b"\xff" * 8,
        GREETING + READY + (b"\x03" + (FRAME_BYTES // 2).to_bytes(8, "big") + bytes(FRAME_BYTES // 2)) * 3,
    ],
)
def test_garbage_breaks_the_connection(said: bytes) -> None:
    with pytest.raises(BrokenPeer):
        Zmtp().receive(said)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_messages_or_a_broken_peer(data: bytes, greeted: bool) -> None:
    with contextlib.suppress(BrokenPeer):
        Zmtp().receive((GREETING + READY if greeted else b"") + data)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=3), max_size=4), st.data())
def test_messages_are_the_same_however_the_bytes_are_cut(messages: list[Frames], data: st.DataObject) -> None:
    sender, receiver = Zmtp(), Zmtp()
    sender.receive(GREETING + READY)
    for frames in messages:
        sender.send(frames)
    stream = bytes(sender.outgoing) + bytes((COMMAND, 9)) + b"\x04PING\0\0ab"
    got: list[Frames] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += receiver.receive(stream[:size])
        stream = stream[size:]
    assert got == messages
    assert receiver.outgoing.endswith(bytes((COMMAND, 7)) + b"\x04PONGab")
