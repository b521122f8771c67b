"""The daemon's processes: quick to answer, light, separate, and gone when it stops."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import lives


def test_a_worker_that_is_just_being_forked_is_told_to_leave_too() -> None:
    with DaemonFixture('[models.a]\nsource = "/a"\n[models.b]\nsource = "/b"\n') as daemon:
        with Wire(daemon.socket) as client:
            client.call("load", model="a")
            client.call("load", model="b", wait=False)
        daemon.stop()
        assert "did not leave" not in daemon.log.read_text()


def test_status_is_answered_soon_after_exec_and_the_broker_stays_light() -> None:
    with DaemonFixture() as daemon:
        begin = time.monotonic()
        with Wire(daemon.socket) as client:
            status = client.call("status")
        answered = daemon.started_s + time.monotonic() - begin
        print(f"status {answered:.3f} s after exec; {status['daemon']['rss_bytes'] / 1e6:.1f} MB resident")
        assert status["daemon"]["rss_bytes"] < 60e6


def test_the_broker_never_maps_torch_vllm_or_plugin_code(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.read(client.ask("hi"))
        pid = client.call("status")["daemon"]["pid"]
    maps = Path(f"/proc/{pid}/maps").read_text()
    for name in ("torch", "vllm", "transformers", "libcuda", "pluggy", "ingle_plugins", "numpy"):
        assert name not in maps
    assert psutil.Process(pid).memory_info().rss < 60e6


def test_the_broker_never_imports_an_engine_or_a_plugin_whatever_it_is_asked() -> None:
    """Maps show libraries only; the interpreter itself tells of every module, to the end."""
    with DaemonFixture(environ={"PYTHONPROFILEIMPORTTIME": "1"}) as daemon:
        with Wire(daemon.socket) as client:
            client.read(client.ask("hi"))
            for verb in ("status", "models", "requests"):
                client.call(verb)
            client.call("show", model="ember")
            client.call("unload", model="ember")
        assert daemon.stop() == 0
        imported = {
            line.split("|")[2].strip().split(".")[0]
            for line in daemon.log.read_text().splitlines()
            if line.startswith("import time:") and line.count("|") == 2
        }
    assert {"msgspec", "asyncio", "ingled"} <= imported
    heavy = {"torch", "vllm", "transformers", "huggingface_hub", "pluggy", "ingle_plugins", "numpy"}
    assert not imported & heavy


def test_nothing_is_left_when_the_daemon_stops() -> None:
    daemon = DaemonFixture().start()
    try:
        with Wire(daemon.socket) as client:
            client.read(client.ask("hi"))
            status = client.call("status")
            pids = [status["daemon"]["pid"], status["nursery"]["pid"], client.call("models")["models"][0]["pid"]]
        assert daemon.stop() == 0
        assert not any(lives(pid) for pid in pids)
        left = {path.name for path in daemon.folder.rglob("*")} - {"ingled.toml", "ingled.log", "state"}
        assert not any(path.is_socket() for path in daemon.folder.rglob("*"))
        assert "link.secret" not in left
        assert "Traceback" not in daemon.log.read_text()
    finally:
        daemon.close()


def test_a_second_daemon_on_the_same_socket_refuses_to_start(daemon: DaemonFixture) -> None:
    import subprocess

    done = subprocess.run(daemon.command, capture_output=True, text=True, timeout=60, env=daemon.environ, check=False)
    assert done.returncode == 1
    assert "another ingled holds" in done.stderr
    with Wire(daemon.socket) as client:
        assert client.call("status")["daemon"]["name"] == "ingled"


def test_a_file_at_the_sockets_place_is_not_deleted() -> None:
    daemon = DaemonFixture()
    daemon.socket.write_text("precious")
    with pytest.raises(RuntimeError, match="not a socket"):
        daemon.start()
    assert daemon.socket.read_text() == "precious"
    daemon.close()


def test_a_dead_daemons_socket_is_replaced() -> None:
    daemon = DaemonFixture().start()
    assert daemon.process is not None
    try:
        with Wire(daemon.socket) as client:
            nursery = client.call("status")["nursery"]["pid"]
        daemon.kill()
        assert daemon.socket.is_socket()
        daemon.start()
        with Wire(daemon.socket) as client:
            assert client.read(client.ask("hi"))[0] == "hi"
        os.kill(nursery, 0)
    except ProcessLookupError:
        pass
    finally:
        daemon.close()


def test_sigterm_drains_and_a_second_one_ends_at_once() -> None:
    config = '[daemon]\ndrain = 60\n[models.slow]\nsource = "builtin:ember"\necho = {delay_ms = 10}'
    daemon = DaemonFixture(config).start()
    assert daemon.process is not None
    try:
        with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
            id = client.ask("w " * 100, credit=0)  # it does not end before it is read
            while client.call("requests")["requests"][0]["state"] == "queued":
                pass
            daemon.process.send_signal(signal.SIGTERM)
            with pytest.raises(RuntimeError, match="draining"):
                while True:
                    other.ask("one more", credit=0)
            client.send({"t": "credit", "id": id, "n": 1, "ack": 0})
            assert client.read(id)[1]["t"] == "done"
            other.close()
        assert daemon.process.wait(60) == 0
        daemon.start()
        with Wire(daemon.socket) as client:
            client.ask(" ".join("w" for _ in range(6000)))
            client.until("chunk")
            daemon.process.send_signal(signal.SIGTERM)
            with Wire(daemon.socket) as other:
                while not other.call("status")["daemon"]["draining"]:
                    pass
            daemon.process.send_signal(signal.SIGTERM)
            end = client.until("failed")[-1]
            assert (end["code"], end["message"]) == ("draining", "the daemon stops")
            assert daemon.process.wait(100) == 0
        after = daemon.log.read_text().rpartition("second signal: ending at once")[2]
        assert "loading" not in after, "no worker is started for what was running"
    finally:
        daemon.close()
