"""The broker's ROUTER against libzmq's sockets, our own DEALER, and peers that keep no rule."""

import asyncio
import contextlib
import gc
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import zmq
from ingle.zmtp import GREETING, Dealer, Frames, header
from ingled.broker import router
from ingled.broker.listen import listen
from ingled.broker.peer import LUMP_BYTES, Peer
from ingled.broker.rota import Rota
from ingled.broker.router import READ_BYTES, REST_S, UNREAD_BYTES, Router

READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
DEADLINE_S = 30.0


class Served:
    """A router on a loop of its own, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.path = f"{folder}/s"
        self.heard: list[tuple[Peer, Frames]] = []
        self.gone: list[Peer] = []
        self.unmet: list[Callable[[], None]] | None = None
        """Where a test sets it: who waits until it is known who they are."""
        self.answer: Callable[[Peer, Frames], bool | None] = lambda peer, frames: None
        self.router = Router(
            self.loop,
            self._receive,
            self.gone.append,
            meet=self._meet,
            frame_bytes=1 << 20,
            backlog_bytes=1 << 20,
            rest_s=REST_S,
        )
        self.router.listen(listen(Path(self.path), 0o600))

    def _meet(self, uid: int, then: Callable[[], None]) -> None:
        assert uid == os.getuid()
        then() if self.unmet is None else self.unmet.append(then)

    def _receive(self, peer: Peer, frames: Frames) -> bool | None:
        self.heard.append((peer, frames))
        return self.answer(peer, frames)

    def until(self, check: Callable[[], object]) -> None:
        """Let the loop turn until this is true."""

        async def wait() -> None:
            while not check():
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(asyncio.wait_for(wait(), DEADLINE_S))

    def turn(self) -> None:
        """Let the loop turn a few times."""
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))

    def raw(self, said: bytes = b"") -> socket.socket:
        """Return a connection on which nobody speaks for us."""
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(DEADLINE_S)
        one.connect(self.path)
        if said:
            one.sendall(said)
        return one


@pytest.fixture
def served() -> Iterator[Served]:
    with TemporaryDirectory(prefix="ig") as folder:  # a socket's path may have 107 bytes
        served = Served(Path(folder))
        yield served
        served.router.close()
        served.router.close()
        served.loop.close()


def test_libzmq_and_our_own_dealer_get_their_answers(served: Served) -> None:
    def answer(peer: Peer, frames: Frames) -> None:
        served.router.send(peer, b"you said " + frames[0])

    served.answer = answer
    with zmq.Context() as context, context.socket(zmq.DEALER) as theirs:
        theirs.linger = 0
        theirs.setsockopt(zmq.HEARTBEAT_IVL, 10)
        theirs.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
        theirs.connect(f"ipc://{served.path}")
        ours = Dealer(served.path)
        for size in (0, 255, 256, 100_000):
            theirs.send(b"t" * size)
            ours.send(b"o" * size)
            served.until(lambda: theirs.poll(0))
            assert theirs.recv() == b"you said " + b"t" * size
            got: list[Frames] = []
            while not got:
                served.turn()
                if ours.wait(0.01):
                    got = ours.receive()
            assert got == [[b"you said " + b"o" * size]]
        theirs.send_multipart([b"a", b"", b"b"])
        served.until(lambda: [b"a", b"", b"b"] in [frames for _, frames in served.heard])
        ours.close()
    served.until(lambda: len(served.gone) == 2)
    peers = {peer.number: peer for peer, _ in served.heard}
    assert {(peer.pid, peer.uid) for peer in peers.values()} == {(os.getpid(), os.getuid())}
    assert len(peers) == 2 and served.router.no_identity == 0


def test_nothing_is_read_of_somebody_who_is_not_known_yet(served: Served) -> None:
    served.unmet = []
    one = Dealer(served.path)
    one.send(b"hello")
    served.until(lambda: served.unmet)
    served.turn()
    assert served.heard == [] and not one.wait(0)
    served.unmet[0]()
    while not served.heard:
        served.turn()
        one.wait(0.01) and one.receive()
    assert served.heard[0][1] == [b"hello"]
    one.close()


def test_what_was_said_before_the_end_is_heard_and_the_end_comes_once(served: Served) -> None:
    def answer(peer: Peer, frames: Frames) -> None:
        served.router.send(peer, b"x" * 1000)  # which fails: it has gone

    served.answer = answer
    one = served.raw(GREETING + READY + b"\x00\x01a" + b"\x00\x03bye")
    one.close()
    served.until(lambda: served.gone)
    assert [frames for _, frames in served.heard] == [[b"a"], [b"bye"]]
    served.turn()
    assert len(served.gone) == 1
    served.router.send(served.gone[0], b"nobody is there")


def test_a_slow_reader_loses_nothing(served: Served) -> None:
    one = Dealer(served.path)
    one.send(b"hi")
    while not served.heard:
        served.turn()
        one.wait(0.01) and one.receive()
    peer = served.heard[0][0]
    for number in range(3000):
        served.router.send(peer, b"%06d" % number * 200, credited=True)
    assert len(peer.waiting) <= 3000 * 1300 // LUMP_BYTES + 2  # a few large pieces
    got: list[Frames] = []
    while len(got) < 3000:
        served.turn()
        if one.wait(0.01):
            got += one.receive()
    assert [frames[0][:6] for frames in got] == [b"%06d" % number for number in range(3000)]
    assert not peer.waiting and served.router.clogged == 0
    one.close()


def test_who_reads_nothing_is_dropped_and_others_are_served(served: Served) -> None:
    one = served.raw(GREETING + READY + b"\x00\x02hi")
    served.until(lambda: served.heard)
    peer = served.heard[0][0]
    while not served.router.clogged:
        served.router.send(peer, bytes(100_000))
    served.until(lambda: served.gone == [peer])
    other = served.raw(GREETING + READY + b"\x00\x02ho")
    served.until(lambda: len(served.heard) == 2)
    for last in (one, other):
        last.close()


def test_who_does_not_read_is_not_heard_until_it_reads_and_loses_nothing(served: Served) -> None:
    served.answer = lambda peer, frames: served.router.send(peer, frames[0] * 100)
    one, count = served.raw(GREETING + READY), 20_000
    said = b"".join(b"\0\6%06d" % number for number in range(count))
    sender = threading.Thread(target=one.sendall, args=(said,))
    sender.start()
    served.until(lambda: served.heard and served.heard[0][0].unsent > UNREAD_BYTES)
    served.until(lambda: not served.router._floods and not served.router._behind)
    served.turn()
    peer, size = served.heard[0][0], len(header(0, 600)) + 600
    assert len(served.heard) < count, "it was heard to the end, though it reads nothing"
    assert peer.unsent < UNREAD_BYTES + READ_BYTES // 8 * size
    got = bytearray()
    while len(served.heard) < count or peer.unsent:
        if select.select((one,), (), (), 0)[0]:
            got += one.recv(1 << 20)
        served.turn()
    sender.join()
    while len(got) < len(GREETING + READY) + count * size:
        got += one.recv(1 << 20)
    told = got[-count * size :]
    assert [told[at - 600 : at - 594] for at in range(size, len(told) + 1, size)] == [b"%06d" % n for n in range(count)]
    assert served.router.clogged == 0
    one.close()


def test_who_is_needed_is_heard_whatever_it_has_not_read(served: Served) -> None:
    one = served.raw(GREETING + READY + b"\0\2hi")
    served.until(lambda: served.heard)
    peer = served.heard[0][0]
    peer.needed = True
    while peer.unsent <= UNREAD_BYTES:
        served.router.send(peer, bytes(10_000))
    one.sendall(b"\0\5reply")
    served.until(lambda: served.heard[-1][1] == [b"reply"])
    one.close()


def test_the_last_words_of_who_reads_nothing_are_heard(served: Served) -> None:
    one = served.raw(GREETING + READY + b"\0\2hi")
    served.until(lambda: served.heard)
    peer = served.heard[0][0]
    while peer.unsent <= UNREAD_BYTES:
        served.router.send(peer, bytes(10_000))
    one.sendall(b"\0\3bye")
    served.turn()
    assert len(served.heard) == 1
    one.close()
    served.until(lambda: served.gone == [peer])
    assert served.heard[-1][1] == [b"bye"]


def test_a_flood_of_one_does_not_keep_another_waiting(served: Served) -> None:
    def answer(peer: Peer, frames: Frames) -> None:
        until = served.loop.time() + 0.0002  # so that a turn ends long before the flood
        while served.loop.time() < until:
            pass

    flood, other = served.raw(GREETING + READY), served.raw(GREETING + READY)
    served.until(lambda: all(peer.protocol.ready for peer in served.router._by_fd.values()))
    served.answer = answer
    flood.sendall(b"\x00\x01f" * 20_000)
    other.sendall(b"\x00\x01o")
    served.until(lambda: any(frames == [b"o"] for _, frames in served.heard))
    assert [frames for _, frames in served.heard].index([b"o"]) < 10_000
    for one in (flood, other):
        one.close()


def test_a_long_message_is_a_flood_too_and_arrives_whole(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    class Floods(Rota[Peer]):
        def add(self, account: int, process: int, one: Peer) -> None:
            flooded.append(one)
            super().add(account, process, one)

    flooded: list[Peer] = []
    served.router._floods = Floods()
    monkeypatch.setattr(router, "PATIENCE_S", 0.0)  # whoever has more to say than is read at once
    one = served.raw(GREETING + READY)
    size = 1 << 20
    sender = threading.Thread(target=one.sendall, args=(b"\x02" + size.to_bytes(8, "big") + bytes(size),))
    sender.start()
    served.until(lambda: served.heard)
    assert served.heard[0][1] == [bytes(size)]
    assert flooded and set(flooded) == {served.heard[0][0]}
    sender.join()
    one.sendall(b"\x00\x03and")
    served.until(lambda: len(served.heard) == 2)
    one.close()
    served.until(lambda: served.gone)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00" + b"\x0a\x00\x81\xa1t\xa5hello",  # ZMTP 1.0
        GREETING + READY.replace(b"\x06DEALER", b"\x03SUB").replace(b"\x1c", b"\x19"),
        GREETING + READY.replace(b"Socket-Type", b"Other-Thing"),
        GREETING + READY + b"\x02" + ((1 << 20) + 1).to_bytes(8, "big"),
        GREETING + READY + b"\x01\x00" * 1000,
        GREETING + READY + (b"\x03" + (1 << 19).to_bytes(8, "big") + bytes(1 << 19)) * 3,
    ],
)
def test_what_breaks_the_rules_is_closed(served: Served, said: bytes) -> None:
    one = served.raw()
    one.setblocking(False)
    rest, closed = said, False
    while not closed:
        served.turn()
        try:
            rest = rest[one.send(rest) :] if rest else rest
            closed = one.recv(1 << 16) == b""
        except BlockingIOError:
            continue
        except OSError:
            closed = True
    one.close()
    assert served.heard == []


def test_a_handshake_has_a_deadline(served: Served) -> None:
    one = served.raw(GREETING[:20])
    served.until(lambda: served.gone)
    assert one.recv(100).startswith(b"\xff") and one.recv(100) == b""
    one.close()


def test_each_handshake_has_a_deadline_whoever_has_left_meanwhile(served: Served) -> None:
    served.raw(GREETING[:20]).close()
    served.until(lambda: len(served.gone) == 1)
    for _ in range(2):
        served.gone.clear()
        one = served.raw(GREETING[:20])
        served.until(lambda: served.gone)
        one.close()


def test_nothing_is_kept_of_who_has_come_and_gone(served: Served) -> None:
    def there() -> int:
        return sum(isinstance(one, Peer) for one in gc.get_objects())

    before = there()
    for _ in range(20):
        served.raw(GREETING[:20]).close()
    served.until(lambda: len(served.gone) == 20)
    served.gone.clear()
    served.turn()
    gc.collect()
    assert there() <= before


def test_what_is_on_its_way_leaves_before_the_close(served: Served) -> None:
    one = served.raw(GREETING + READY + b"\x00\x02hi")
    served.until(lambda: served.heard)
    peer = served.heard[0][0]
    for _ in range(10):
        served.router.send(peer, b"z" * 1000)
    served.router.close()
    got = b""
    while data := one.recv(1 << 16):
        got += data
    assert got.count(b"z") == 10_000
    one.close()


def flood(served: Served, messages: int = 1000) -> tuple[socket.socket, socket.socket]:
    """Return a connection on which many messages were said at once, and one on which nothing was, by then."""
    served.answer = lambda peer, frames: served.router.send(peer, frames[0])
    pair = served.raw(GREETING + READY), served.raw(GREETING + READY)
    for one in pair:
        one.sendall(b"\0\1-")
    served.until(lambda: len(served.heard) == 2)
    pair[0].sendall(b"\0\5flood" * messages)
    return pair


def test_between_two_messages_of_somebody_a_flood_has_one(served: Served) -> None:
    one, other = flood(served)
    other.sendall(b"\0\5other" * 3)
    served.until(lambda: len(served.heard) == 1005)
    said = [frames[0] for _, frames in served.heard]
    last = len(said) - said[::-1].index(b"other")
    assert last - said.index(b"other") <= 6
    one.close()
    other.close()


def test_who_comes_while_a_flood_rests_is_heard_before_it_goes_on(served: Served) -> None:
    masks: list[int] = []

    def tried(peer: Peer, frames: Frames) -> None:
        if frames == [b"flood"]:
            peer.taken_s = 1.0  # however fast this machine is
            if peer.flood:
                masks.append(peer.mask)
            if len(masks) == 1:
                other.sendall(b"\0\5other")

    one, other = flood(served, 10_000)  # more than one turn has time for
    served.answer = tried
    served.until(lambda: len(served.heard) == 10_003)
    assert set(masks) == {0}, "the kernel holds what it says"
    assert served.heard[-1][1] == [b"flood"], "the other one did not wait for all of it"
    served.until(lambda: not served.heard[2][0].flood)
    one.sendall(b"\0\5later")
    served.until(lambda: served.heard[-1][1] == [b"later"])
    one.close()
    other.close()
    served.until(lambda: len(served.gone) == 2)


@pytest.mark.parametrize("asked", [True, False])
def test_what_was_asked_for_is_no_flood(served: Served, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 0.0001
        return now

    def takes_a_millisecond(peer: Peer, frames: Frames) -> bool:
        nonlocal now
        now += 0.001
        floods.append(peer.flood)
        return asked

    monkeypatch.setattr(router, "time", SimpleNamespace(perf_counter=look, monotonic=time.monotonic))
    floods: list[bool] = []
    served.answer = takes_a_millisecond
    one = served.raw(GREETING + READY)
    one.sendall(b"\0\5reply" * 30)
    served.until(lambda: len(served.heard) == 30)
    assert any(floods) is not asked
    one.close()
    served.until(lambda: served.gone)


def test_a_flood_that_stops_inside_a_message_is_heard_when_it_goes_on(served: Served) -> None:
    def tried(peer: Peer, frames: Frames) -> None:
        peer.taken_s = 1.0

    served.answer = tried
    one = served.raw(GREETING + READY)
    one.sendall(b"\0\5flood" * 10 + b"\0\5fl")
    served.until(lambda: len(served.heard) == 10)
    served.turn()
    one.sendall(b"ood")
    served.until(lambda: len(served.heard) == 11)
    one.close()
    served.until(lambda: served.gone)


def test_what_a_flood_says_waits_in_the_kernel(served: Served) -> None:
    held: list[int] = []
    served.answer = lambda peer, frames: held.append(sum(map(len, (one[0] for one in peer.behind))))
    one = served.raw(GREETING + READY)
    one.setblocking(False)
    left = memoryview((b"\0\62" + b"x" * 50) * 5000)
    while left or len(served.heard) < 5000:
        with contextlib.suppress(BlockingIOError):
            left = left[one.send(left) :]
        served.turn()
    assert max(held) <= READ_BYTES
    one.close()
