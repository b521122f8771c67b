"""The real engine behind the real daemon: what the echo engine cannot prove. One start for all."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_model import profile

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

LONG = " ".join(f"the {i} stone and the small lamp," for i in range(120))


def wait_for(check: Callable[[], bool], seconds: float = 120.0) -> float:
    """Ask again and again until it is so; returns the seconds that it took."""
    begin = time.monotonic()
    while not check():
        assert time.monotonic() - begin < seconds, "it did not come true"
        time.sleep(0.002)
    return time.monotonic() - begin


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        config = profile(Path(folder), "ember", preload=True)
        with DaemonFixture(config, engine="vllm") as running:
            with Wire(running.socket) as client:
                wait_ready(client)
            yield running


def wait_ready(client: Wire) -> None:
    """Wait for the preload; the first start of a machine inspects the architecture, which takes a while."""
    wait_for(lambda: client.call("models")["models"][0]["state"] == "ready", 300)


def test_an_answer_streams_and_the_light_processes_stay_light(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        text, end = client.read(client.ask("hello", body={"max_tokens": 40, "temperature": 0, "ignore_eos": True}))
        assert len(text) > 40
        assert end["finish"] in ("length", "stop")
        model = client.call("models")["models"][0]
        assert model["engine"].startswith("vllm ")
        assert model["kv_tokens"] > 1000
        pid = client.call("status")["daemon"]["pid"]
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert not any(name in maps for name in ("torch", "vllm", "pluggy"))
    rss = psutil.Process(pid).memory_info().rss
    print(f"broker: {rss / 1e6:.1f} MB resident with a model ready")
    assert rss < 60e6


def test_sixty_four_streams_are_batched_and_each_is_exact(daemon: DaemonFixture) -> None:
    # Long enough for several of the worker's reports, which come every second.
    body = {"max_tokens": 800, "temperature": 0, "ignore_eos": True}
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        alone = client.read(client.ask("say 7", body=body))[0]
        ids = [client.ask(f"say {i % 8}", body=body, credit=256) for i in range(64)]
        most = 0
        texts = dict.fromkeys(ids, "")
        ends: dict[str, str] = {}
        asked = time.monotonic()
        while len(ends) < 64:
            message = client.receive()
            if message["t"] == "chunk":
                assert message["o"] == len(texts[message["id"]].encode())
                texts[message["id"]] += message["x"]
                client.send({"t": "credit", "id": message["id"], "n": 1, "ack": message["o"]})
            elif message["t"] in ("done", "failed"):
                ends[message["id"]] = message["t"]
            if time.monotonic() - asked > 0.2:
                asked = time.monotonic()
                most = max(most, other.call("models")["models"][0]["running"])
        assert set(ends.values()) == {"done"}
        assert most == 64, "all run at the same time in one worker"
        assert sum(text == alone for text in texts.values()) >= 1
        assert all(len(text) > 800 for text in texts.values())


def test_a_second_question_over_the_same_long_file_comes_from_the_prefix_cache(daemon: DaemonFixture) -> None:
    body = {"max_tokens": 4, "temperature": 0, "ignore_eos": True}
    with Wire(daemon.socket) as client:
        _, first = client.read(client.ask(LONG + " What is it?", body=body))
        _, second = client.read(client.ask(LONG + " Who is it?", body=body))
        print(
            f"prompt {first['usage']['prompt']}: {first['ms']['first']} ms to the first token; "
            f"again, {second['usage']['cached']} cached: {second['ms']['first']} ms"
        )
        assert first["usage"]["prompt"] > 500
        assert first["usage"]["cached"] < 200
        assert second["usage"]["cached"] >= first["usage"]["prompt"] // 128 * 128 - 256
        wait_for(lambda: client.call("models")["models"][0]["cached_tokens"] >= second["usage"]["cached"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as another user")
def test_the_prefix_cache_tells_no_account_about_anothers_prompts(daemon: DaemonFixture) -> None:
    body = {"max_tokens": 4, "temperature": 0}
    daemon.folder.chmod(0o755)
    daemon.socket.chmod(0o666)
    os.seteuid(65534)
    try:
        other = Wire(daemon.socket)
    finally:
        os.seteuid(0)
    with other, Wire(daemon.socket) as client:
        client.read(client.ask("secret " + LONG, body=body))
        assert client.read(client.ask("secret " + LONG, body=body))[1]["usage"]["cached"] > 500
        _, end = other.read(other.ask("secret " + LONG, body=body))
        assert other.welcome["account"] == "uid:65534"
        assert end["usage"]["cached"] == 0
        assert other.read(other.ask("secret " + LONG, body=body))[1]["usage"]["cached"] > 500


def test_kv_cache_use_is_shown_while_a_model_works(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask(LONG, body={"max_tokens": 3000, "ignore_eos": True}, credit=0)
        wait_for(lambda: other.call("models")["models"][0]["running"] == 1)
        assert other.call("models")["models"][0]["kv_use"] > 0
        listed = daemon.json("ps")
        assert "ember" in json.dumps(listed)
        client.send({"t": "cancel", "ref": 1000, "id": id})
        client.until("result")


def test_a_hundred_readers_that_stop_cost_little_and_get_every_character(daemon: DaemonFixture) -> None:
    body = {"max_tokens": 1000, "ignore_eos": True, "temperature": 0}
    with Wire(daemon.socket) as other:
        whole, _ = other.read(other.ask("tell me", body=body))
        before = other.call("status")["daemon"]["rss_bytes"]
        readers = [Wire(daemon.socket) for _ in range(100)]
        begin = time.monotonic()
        ids = [reader.ask(f"tell me {i}", body=body) for i, reader in enumerate(readers)]

        def generated() -> bool:
            model = other.call("models")["models"][0]
            return bool(model["running"] == 0 and model["waiting"] == 0)

        wait_for(lambda: other.call("models")["models"][0]["running"] > 0)
        took = wait_for(generated, 300)
        time.sleep(max(0.0, 10 - took))  # nobody reads for ten seconds at least: that is the case to test
        grown = other.call("status")["daemon"]["rss_bytes"] - before
        print(f"100 readers that stopped for {time.monotonic() - begin:.1f} s: {grown / 1e6:.2f} MB")
        assert grown < 5e6
        for reader, id in zip(readers, ids, strict=True):
            text, end = reader.read(id)
            assert end["t"] == "done"
            assert end["usage"]["completion"] == 1000
            assert abs(len(text) - len(whole)) < len(whole)
            reader.close()


def test_cancel_reaches_the_engine(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask("go on", body={"max_tokens": 7000, "ignore_eos": True})
        client.until("chunk")
        wait_for(lambda: other.call("models")["models"][0]["running"] == 1)
        begin = time.monotonic()
        other.send({"t": "cancel", "ref": 1000, "id": id})
        assert client.until("failed")[-1]["code"] == "cancelled"
        ended = time.monotonic() - begin
        engine = ended + wait_for(lambda: other.call("models")["models"][0]["running"] == 0)
        print(f"cancel: client told after {ended * 1e3:.1f} ms, the engine's own count after {engine * 1e3:.1f} ms")


TALKER = """
import sys
from ingled.testing import Wire
client = Wire(sys.argv[1])
id = client.ask("go on", body={"max_tokens": 7000, "ignore_eos": True}, credit=256)
print("talks", flush=True)
client.read(id)
"""


def test_a_client_killed_with_sigkill_has_its_generation_aborted(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as other:
        command = [sys.executable, "-c", TALKER, str(daemon.socket)]
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert client.stdout is not None
        assert client.stdout.readline() == b"talks\n"
        wait_for(lambda: other.call("models")["models"][0]["running"] == 1)
        begin = time.monotonic()
        client.send_signal(signal.SIGKILL)
        wait_for(lambda: other.call("models")["models"][0]["running"] == 0)
        print(f"the engine is idle {time.monotonic() - begin:.3f} s after SIGKILL")
        client.wait()
        client.stdout.close()


def test_on_a_cpu_a_model_cannot_sleep_and_the_command_says_why(daemon: DaemonFixture) -> None:
    failed = daemon.cli("sleep", "ember")
    assert failed.returncode != 0
    assert "model 'ember' cannot sleep: on a CPU, vLLM's sleep gives no memory back" in failed.stderr
    assert "`ingle unload ember` gives all of its memory back" in failed.stderr
    assert daemon.json("show", "ember")["state"] == "ready"
