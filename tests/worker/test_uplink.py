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


def test_what_a_worker_says_that_leaves_at_once_arrives_though_the_broker_is_slow(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 60.0)
    path, heard, leaves = str(runtime / "slow.sock"), bytearray(), threading.Event()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    def slow() -> None:
        with listening.accept()[0] as worker:
            leaves.wait()
            worker.sendall(GREETING + READY)
            while data := worker.recv(1 << 16):
                heard.extend(data)

    broker = threading.Thread(target=slow)
    broker.start()

    async def fails() -> None:
        uplink = Uplink(path, lambda message: None, lambda: None, lambda: None)
        uplink.connect()
        uplink.send(link.LoadFailed("no weights"))
        leaves.set()
        uplink.close()

    asyncio.run(fails())
    broker.join()
    listening.close()
    assert b"no weights" in heard
