"""The worker's end of the private link, against a broker that takes its time."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest
from ingle.zmtp import GREETING
from ingled import link
from ingled.worker import uplink as module
from ingled.worker.uplink import Uplink

READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"


class Broker:
    """Accepts one worker when it is let, and hears it out."""

    def __init__(self, runtime: Path) -> None:
        self.path = str(runtime / "slow.sock")
        self.heard = bytearray()
        self.go = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._listening.accept()[0] as worker:
            self.go.wait()
            worker.sendall(GREETING + READY)
            while data := worker.recv(1 << 16):
                self.heard.extend(data)

    def end(self) -> bytes:
        """Return all that was heard, once the worker has gone."""
        self._thread.join()
        self._listening.close()
        return bytes(self.heard)


def test_what_a_worker_says_that_leaves_at_once_arrives_though_the_broker_is_slow(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 60.0)
    broker = Broker(runtime)

    async def fails() -> None:
        uplink = Uplink(broker.path, lambda message: None, lambda: None, lambda: None)
        uplink.connect()
        uplink.send(link.LoadFailed("no weights"))
        broker.go.set()
        uplink.close()

    asyncio.run(fails())
    assert b"no weights" in broker.end()


def test_the_attach_is_the_first_that_a_broker_hears_though_chunks_wait(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 60.0)
    broker = Broker(runtime)
    broker.go.set()

    async def connects() -> None:
        uplink = Uplink(broker.path, lambda message: None, lambda: None, lambda: uplink.send(attach))
        uplink.piece(link.Piece("r", 0, 2, [1], b"hi"))
        uplink.after(link.Ended("r", "stop", 1, 0, 1))
        uplink.connect()
        uplink.close()

    attach = link.Attach("secret", "worker", 1)
    asyncio.run(connects())
    heard = broker.end()
    assert b"attach" in heard
    assert b"chunks" not in heard and b"ended" not in heard, "the worker's own attach tells of them"
