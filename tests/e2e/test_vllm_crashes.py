"""What is killed comes back and no character is lost, with the real engine: text equal to an undisturbed run."""

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ingle import Client
from ingle.errors import DaemonFailed
from ingled.link import STACKS_SIGNAL
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import lives
from ingled.testing_model import profile
from ingled.testing_remains import abandoned

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

CONFIG = """
[daemon]
stuck = 15

"""
STREAMS = 50
TOKENS = 400


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        with DaemonFixture(CONFIG + profile(Path(folder), "ember"), engine="vllm") as running:
            with Wire(running.socket) as client:
                client.call("load", model="ember")
            yield running


def model_of(client: Wire) -> dict[str, Any]:
    found: dict[str, Any] = client.call("models")["models"][0]
    return found


def prompt(index: int) -> str:
    return f"{index} tell me about the lamp"


@pytest.fixture(scope="module")
def undisturbed(daemon: DaemonFixture) -> list[str]:
    """The greedy answers, each asked alone: what the streams must be, whatever happens."""
    with Client(str(daemon.socket)) as client:
        options: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        return [client.chat(prompt(index), **options).text for index in range(STREAMS)]


def streams_of(client: Client) -> list[Any]:
    options: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    return [client.chat(prompt(i), stream=True, **options) for i in range(STREAMS)]


def same(got: list[str], whole: list[str]) -> int:
    """Return how many are equal; the rest must at least be whole: batches round differently, now and then."""
    return sum(one == other for one, other in zip(got, whole, strict=True))


@pytest.mark.parametrize("what", ["EngineCore", "front", "hang"])
def test_fifty_streams_outlive_their_engine(
    daemon: DaemonFixture, undisturbed: list[str], what: str, chance: random.Random
) -> None:
    killed: list[str] = []

    def kill() -> None:
        with Wire(daemon.socket) as other:
            for _ in range(2 if what == "EngineCore" else 1):
                time.sleep(chance.uniform(0.2, 0.8))
                front = psutil.Process(model_of(other)["pid"])
                core = front.children()[0]
                target, number = (
                    (front if what == "front" else core),
                    (signal.SIGSTOP if what == "hang" else signal.SIGKILL),
                )
                os.kill(target.pid, number)
                killed.append(f"{what} {target.pid}")
                while model_of(other)["pid"] in (front.pid, None) or model_of(other)["state"] != "ready":
                    time.sleep(0.01)

    with Client(str(daemon.socket), timeout=120) as client:
        streams = streams_of(client)
        killer = threading.Thread(target=kill)
        killer.start()
        got = ["".join(delta.text for delta in stream) for stream in streams]
        killer.join()
        resumed = [stream.answer.resumed for stream in streams]
    equal = same(got, undisturbed)
    print(f"{killed}: {STREAMS} streams done, {equal} equal, resumed {sorted(set(resumed))}")
    assert all(stream.answer.usage.completion == TOKENS for stream in streams)
    assert max(resumed) >= 1
    assert equal == STREAMS


COUNTING = {"name": "many", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 200}}


@pytest.mark.parametrize(
    "option",
    [
        pytest.param({"frequency_penalty": 0.1, "ignore_eos": True}, id="penalty"),
        pytest.param({"response_format": {"type": "json_schema", "json_schema": COUNTING}}, id="grammar"),
    ],
)
def test_what_cannot_go_on_ends_with_the_reason_and_its_text_stays(
    daemon: DaemonFixture, option: dict[str, Any]
) -> None:
    with Client(str(daemon.socket), timeout=120) as client:
        client.load("ember")
        stream = client.chat(prompt(1), stream=True, max_tokens=TOKENS, temperature=0, **option)
        for _ in range(3):
            next(iter(stream))
        before = stream.text
        with Wire(daemon.socket) as other:
            (core,) = psutil.Process(model_of(other)["pid"]).children()
        core.send_signal(signal.SIGKILL)
        with pytest.raises(DaemonFailed, match="the state of its grammar or penalties died with it") as caught:
            stream.read()
        assert (caught.value.code, caught.value.fault, caught.value.hint) == ("worker_died", "worker", "ask again")
        assert before and stream.text.startswith(before)


def test_fifty_streams_outlive_the_broker(daemon: DaemonFixture, undisturbed: list[str]) -> None:
    with Wire(daemon.socket) as other:
        pid = model_of(other)["pid"]
    with Client(str(daemon.socket), timeout=120) as client:
        streams = streams_of(client)
        heads = [next(iter(stream)).text for stream in streams]
        daemon.kill()
        begin = time.monotonic()
        daemon.start()
        heads[0] += next(iter(streams[0])).text
        print(f"the first stream goes on {time.monotonic() - begin:.2f} s after the broker's SIGKILL")
        got = [head + "".join(d.text for d in stream) for head, stream in zip(heads, streams, strict=True)]
    equal = same(got, undisturbed)
    print(f"{STREAMS} streams done, {equal} equal")
    with Wire(daemon.socket) as other:
        assert model_of(other)["pid"] == pid
    assert equal == STREAMS


def test_without_a_new_broker_memory_is_freed_and_nothing_is_left() -> None:
    before = abandoned()
    with DaemonFixture("[daemon]\nadopt_grace = 3\n", engine="vllm") as daemon:
        with Wire(daemon.socket) as client:
            client.call("load", model="ember")
            pid, nursery = model_of(client)["pid"], client.call("status")["nursery"]["pid"]
        pids = [pid, nursery, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        daemon.kill()
        begin = time.monotonic()
        while any(lives(one) for one in pids):
            assert time.monotonic() - begin < 100
            time.sleep(0.05)
        print(f"{len(pids)} processes have gone {time.monotonic() - begin:.1f} s after the broker's SIGKILL")
    while left := abandoned() - before:  # others come and go, and some have the same names
        assert time.monotonic() - begin < 100, left
        time.sleep(0.5)


def test_an_engine_tells_where_it_is_and_goes_on(daemon: DaemonFixture) -> None:
    """As it is asked to before it is ended because it hangs."""
    with Wire(daemon.socket) as client:
        client.call("load", model="ember")
        (engine,) = psutil.Process(model_of(client)["pid"]).children()
        log = Path(f"{daemon.socket}.d/logs/worker-ember.log")
        engine.send_signal(STACKS_SIGNAL)
        deadline = time.monotonic() + 60
        while "in run_busy_loop" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.01)
        _, end = client.read(client.ask("hello", body={"max_tokens": 3}))
        assert end["t"] == "done" and psutil.pid_exists(engine.pid)
