"""What is killed comes back, and no character is lost: workers, nursery, broker; with the echo engine."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingle import Client
from ingle.aio import Client as AsyncClient
from ingle.errors import IngleError
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import group_members, lives, wait_until

from tests.e2e.crashes import CONFIG, end_broker, model_of, read_on, states, words

DEADLINE_S = 3
"""Of an answer that takes twenty times as long."""


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(CONFIG) as running:
        yield running


def begin(daemon: DaemonFixture, clients: list[Wire], length: int = 600) -> tuple[list[str], list[str]]:
    """Start a stream on each connection, and wait until the first has text."""
    texts = [words(length, f"w{i}-") for i in range(len(clients))]
    ids = [client.ask(text, body={"max_tokens": length}) for client, text in zip(clients, texts, strict=True)]
    with Wire(daemon.socket) as other:
        wait_until(lambda: [r for r in other.call("requests")["requests"] if r["offset"] > 50])
    return ids, texts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda n: n.name)
def test_requests_of_a_killed_or_hanging_worker_go_on_by_themselves(number: signal.Signals) -> None:
    config = CONFIG.replace("stuck = 10", "stuck = 5") if number == signal.SIGSTOP else CONFIG
    with DaemonFixture(config) as daemon:
        go_on_by_themselves(daemon, number)


def go_on_by_themselves(daemon: DaemonFixture, number: signal.Signals) -> None:
    """Kill or stop the worker of five streams, and read them to their ends."""
    clients = [Wire(daemon.socket) for _ in range(5)]
    ids, texts = begin(daemon, clients)
    with Wire(daemon.socket) as other:
        pid = model_of(other)["pid"]
        os.kill(pid, number)
        for client, id, text in zip(clients, ids, texts, strict=True):
            got, end = client.read(id)
            assert (got, end["t"], end["resumed"]) == (text, "done", 1)
            assert end["usage"]["completion"] == 600
        assert model_of(other)["pid"] != pid
    wait_until(lambda: not group_members(pid))
    for client in clients:
        client.close()


def test_a_killed_nursery_leaves_workers_alone_and_is_replaced(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.read(client.ask("hi"))
        pid, nursery = model_of(client)["pid"], client.call("status")["nursery"]["pid"]
        os.kill(nursery, signal.SIGKILL)
        assert client.read(client.ask("still here"))[0] == "still here"
        assert model_of(client)["pid"] == pid
        wait_until(lambda: client.call("status")["nursery"]["pid"] not in (None, nursery))
        client.call("unload", model="slow")
        assert client.read(client.ask("anew"))[0] == "anew"
        assert model_of(client)["pid"] != pid


def test_fifty_streams_outlive_the_broker_to_the_last_character(daemon: DaemonFixture) -> None:
    texts = [words(800, f"w{i}-") for i in range(50)]
    with Wire(daemon.socket) as other:
        other.call("load", model="slow")
        pid = model_of(other)["pid"]
    with Client(str(daemon.socket), timeout=60) as client:
        streams = [client.chat(text, stream=True, max_tokens=800) for text in texts]
        heads = ["".join(next(iter(stream)).text for _ in range(3)) for stream in streams]
        daemon.kill()
        killed = time.monotonic()
        daemon.start()
        first = next(iter(streams[0])).text
        print(f"the first stream goes on {time.monotonic() - killed:.2f} s after SIGKILL of the broker")
        for index, (stream, text, head) in enumerate(zip(streams, texts, heads, strict=True)):
            rest = (first if index == 0 else "") + "".join(delta.text for delta in stream)
            assert head + rest == text
            assert stream.answer.usage.completion == 800
            assert stream.answer.resumed == 0, "its worker has lived on"
    with Wire(daemon.socket) as other:
        assert model_of(other)["pid"] == pid
        assert other.call("status")["requests"]["ending"] == 0
        assert "adopted 1 workers and 50 requests" in daemon.log.read_text()


def test_who_comes_right_after_an_adoption_is_served_once(daemon: DaemonFixture) -> None:
    """The worker has sent thousands of chunks that the new broker does not know what to do with."""
    text = words(1500)
    with Client(str(daemon.socket), timeout=60) as client, Client(str(daemon.socket), timeout=60) as other:
        streams = [client.chat(text, stream=True, max_tokens=1500, detach=True) for _ in range(50)]
        for stream in streams:
            next(iter(stream))
        daemon.kill()
        daemon.start()
        late = [other.chat("one two", stream=True) for _ in range(50)]
        assert [stream.read().text for stream in late] == ["one two"] * 50
        assert [stream.answer.resumed for stream in late] == [0] * 50
        client.status()  # who only cancels does not come back, and the streams would run to their ends
        for stream in streams:
            stream.cancel()


def test_answers_that_had_ended_or_are_detached_outlive_the_broker_too(daemon: DaemonFixture) -> None:
    text = words(50)
    client = Wire(daemon.socket)
    unread = client.ask(text, credit=1, body={"max_tokens": 50})
    detached = client.ask(text, detach=True, body={"max_tokens": 50})
    with Wire(daemon.socket) as other:
        wait_until(lambda: states(other)[detached] == "ending")
    daemon.kill()
    daemon.start()
    with Wire(daemon.socket) as other:
        for id in (unread, detached):
            other.send({"t": "attach", "ref": 1, "id": id, "offset": 0})
            got, end = other.read(id)
            assert (got, end["t"]) == (text, "done")
    client.close()


def test_replace_takes_over_a_running_daemon_with_its_models_warm(daemon: DaemonFixture) -> None:
    text = words(600)
    assert daemon.process is not None
    with Client(str(daemon.socket), timeout=60) as client:
        stream = client.chat(text, stream=True, max_tokens=600)
        head = next(iter(stream)).text
        with Wire(daemon.socket) as other:
            pid, boot = model_of(other)["pid"], other.welcome["daemon"]["boot"]
        first = daemon.process
        with daemon.log.open("ab") as out:
            daemon.process = subprocess.Popen(
                [*daemon.command, "--replace"], stdout=out, stderr=out, env=daemon.environ, cwd=daemon.folder
            )
        assert first.wait(60) == 0
        assert head + "".join(delta.text for delta in stream) == text
    with Wire(daemon.socket) as other:
        assert model_of(other)["pid"] == pid
        assert other.welcome["daemon"]["boot"] != boot
    assert "handed over" in daemon.log.read_text()


def test_without_a_new_broker_everything_ends_and_leaves_nothing() -> None:
    with DaemonFixture(CONFIG.replace("adopt_grace = 60", "adopt_grace = 5")) as daemon:
        everything_ends(daemon)


def everything_ends(daemon: DaemonFixture) -> None:
    """Kill the broker, and see what becomes of the others."""
    with Wire(daemon.socket) as client:
        client.read(client.ask("hi"))
        pids = [model_of(client)["pid"], client.call("status")["nursery"]["pid"]]
    runtime = Path(f"{daemon.socket}.d")
    waiting = (runtime / "waiting").resolve(strict=True)  # elsewhere, if the folder is on a disk
    daemon.kill()
    wait_until(lambda: not any(lives(pid) for pid in pids))
    assert list((runtime / "workers").iterdir()) == []
    assert {path.name for path in runtime.iterdir()} == {"ingled.lock", "logs", "workers", "hosts"}
    assert not waiting.exists()
    assert not daemon.socket.exists()
    daemon.start()
    with Wire(daemon.socket) as client:
        assert client.read(client.ask("anew"))[0] == "anew"


def test_a_daemon_stops_soon_though_it_took_over_an_end_that_had_been_delivered() -> None:
    """Whether the client had it, the next daemon cannot know; the client has gone and does not come back."""
    with DaemonFixture(CONFIG.replace("[daemon]", "[daemon]\ndrain = 600")) as daemon:
        with Wire(daemon.socket) as client:
            id = client.ask(words(100), stream=False, grace_ms=600_000)
        with Wire(daemon.socket) as other:
            wait_until(lambda: states(other) == {id: "ending"})
        daemon.kill()
        daemon.start()
        with Wire(daemon.socket) as other:
            wait_until(lambda: states(other) == {id: "ending"})
        assert daemon.stop() == 0, "in less than `drain` and `grace_ms`"


@pytest.mark.parametrize("detach", [True, False])
def test_text_from_before_the_death_of_a_worker_outlives_the_broker_too(daemon: DaemonFixture, detach: bool) -> None:
    text = words(600)
    client = Wire(daemon.socket)
    id = client.ask(text, detach=detach, credit=3, body={"max_tokens": 600})
    with Wire(daemon.socket) as other:
        wait_until(lambda: [r for r in other.call("requests")["requests"] if r["offset"] > 10])
        pid = model_of(other)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: (m := model_of(other))["state"] == "ready" and m["pid"] != pid)
    daemon.kill()
    daemon.start()
    with Wire(daemon.socket) as other:
        other.send({"t": "attach", "ref": 1, "id": id, "offset": 0})
        assert other.until("accepted", "failed")[-1]["t"] == "accepted"
        got, end = other.read(id)
        assert (got, end["t"], end["resumed"]) == (text, "done", 1)
    client.close()


def test_what_was_accepted_outlives_a_broker_that_dies_in_the_same_moment(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as other:
        other.call("load", model="slow")
    for _ in range(5):
        client = Wire(daemon.socket)
        id = client.ask("one two three")
        daemon.kill()
        daemon.start()
        with Wire(daemon.socket) as other:
            other.send({"t": "attach", "ref": 1, "id": id, "offset": 0})
            assert other.until("accepted", "failed")[-1]["t"] == "accepted"
            assert other.read(id)[0] == "one two three"
        client.close()


@pytest.mark.slow  # the pauses between the tries add up to 15 s
def test_a_model_whose_workers_die_again_and_again_is_given_up_with_their_last_words() -> None:
    config = '[models.dying]\nsource = "builtin:ember"\necho = {fail = "die", fail_at = 1}'
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        begin = time.monotonic()
        code = "worker_died"
        while code == "worker_died":  # a request is held to be the cause before the model is
            code = client.read(client.ask("one two"))[1]["code"]
        print(f"given up after {time.monotonic() - begin:.1f} s")
        assert code == "load_failed"
        assert time.monotonic() - begin >= 0 + 1 + 2 + 4 + 8
        model = model_of(client)
        assert model["state"] == "failed"
        assert model["why"].startswith("its worker died 6 times in a row; ")
        assert model["log"], "the last lines of the worker's log"
        for shown in (daemon.cli("ps").stdout, daemon.cli("show", "dying").stdout):
            assert "failed" in shown
            assert model["why"] in shown
            assert model["log"][-1].strip() in shown
        with pytest.raises(RuntimeError, match="died 6 times in a row"):
            client.ask("hi")
        assert client.call("load", model="dying")["state"] == "ready"  # somebody cares: it is tried again


def test_the_folder_of_a_worker_that_outlived_its_nursery_is_removed(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.call("load", model="slow")
        pid, nursery = model_of(client)["pid"], client.call("status")["nursery"]["pid"]
        folder = Path(f"{daemon.socket}.d") / "workers" / str(pid)
        assert folder.is_dir()
        os.kill(nursery, signal.SIGKILL)
        wait_until(lambda: client.call("status")["nursery"]["pid"] not in (None, nursery))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not folder.exists())


def test_a_deadline_that_passes_while_there_is_no_broker_ends_the_request_behind_its_text() -> None:
    with DaemonFixture(CONFIG.replace("delay_ms = 5", "delay_ms = 20")) as daemon:
        deadline_passes(daemon)


def deadline_passes(daemon: DaemonFixture) -> None:
    """Have the deadline of an answer that takes a minute pass between two brokers."""
    text = words(3000)
    client = Wire(daemon.socket)
    client.call("load", model="slow")
    passes = time.monotonic() + DEADLINE_S
    id = client.ask(text, deadline_ms=1000 * DEADLINE_S, body={"max_tokens": 3000})
    got = client.until("chunk", "failed")[-1]["x"]
    daemon.kill()
    time.sleep(max(0.0, passes - time.monotonic()))
    daemon.start()
    with Wire(daemon.socket) as other:
        other.send({"t": "attach", "ref": 1, "id": id, "offset": len(got), "credit": 100})
        assert other.until("accepted", "failed")[-1]["t"] == "accepted"
        rest, end = other.read(id, ack=len(got))
        assert text.startswith(got + rest)
        assert end["code"] == "deadline"
    client.close()


def test_what_stands_still_leaves_its_stacks_in_its_log() -> None:
    config = '[daemon]\nstuck = 1\n[models.stalls]\nsource = "/stalls"\necho = {fail = "stall", fail_at = 1}'
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client:
        client.ask("one two three", model="stalls")
        logs = Path(f"{daemon.socket}.d/logs")
        said = "in _fail"  # the function of the echo engine that stands still
        wait_until(lambda: any(said in log.read_text() for log in logs.glob("worker-stalls.log*")))
        assert "killing it; its stacks are in its log" in daemon.log.read_text()
        client.call("unload", model="stalls", force=True)


def test_what_was_stopped_leaves_its_stacks_in_its_log_too(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.read(client.ask("hi"))
        os.kill(model_of(client)["pid"], signal.SIGSTOP)
        logs = Path(f"{daemon.socket}.d/logs")
        said = "(most recent call first)"
        wait_until(lambda: any(said in log.read_text() for log in logs.glob("worker-*.log*")))


def test_a_worker_that_outlives_its_nursery_and_its_secret_is_adopted_all_the_same(daemon: DaemonFixture) -> None:
    """A nursery whose lease ends takes the secret with it; its workers end a moment later, or are found before that."""
    text = words(600)
    client = Wire(daemon.socket)
    id = client.ask(text, body={"max_tokens": 600})
    client.until("chunk")
    with Wire(daemon.socket) as other:
        pid, nursery = model_of(other)["pid"], other.call("status")["nursery"]["pid"]
    daemon.kill()
    os.kill(nursery, signal.SIGKILL)
    Path(f"{daemon.socket}.d/link.secret").unlink()
    daemon.start()
    got, end = read_on(daemon, id)
    assert (got, end["t"], end.get("resumed", 0)) == (text, "done", 0)
    with Wire(daemon.socket) as other:
        assert model_of(other)["pid"] == pid
    client.close()


@pytest.mark.parametrize("how", ["kill", "restart", "replace"])
def test_no_client_is_told_that_there_is_no_daemon_while_the_next_one_comes(daemon: DaemonFixture, how: str) -> None:
    """New connections all the time, blocking ones and of asyncio. The socket stands there, and refuses for a while."""
    told: list[str] = []
    asked, over = [0, 0, 0], threading.Event()

    def blocking(number: int) -> None:
        while not over.is_set():
            try:
                with Client(str(daemon.socket), timeout=120) as client:
                    client.status()
            except IngleError as error:
                told.append(str(error))
            asked[number] += 1

    async def ask() -> None:
        while not over.is_set():
            try:
                async with AsyncClient(str(daemon.socket), timeout=120) as client:
                    await client.status()
            except IngleError as error:
                told.append(str(error))
            asked[2] += 1

    threads = [threading.Thread(target=blocking, args=(number,)) for number in range(2)]
    threads.append(threading.Thread(target=lambda: asyncio.run(ask())))
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            goal = [count + 2 for count in asked]
            end_broker(daemon, how)
            while any(count < least for count, least in zip(asked, goal, strict=True)):
                assert all(thread.is_alive() for thread in threads)
                time.sleep(0.005)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert told == []
