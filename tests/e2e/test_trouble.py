"""Trouble with the machine: each kind has a message that says what is wrong, and nothing is deleted to get on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled import kills
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

from bench.loads import Limit

ROOT = Path(__file__).parents[2]


def refused(daemon: DaemonFixture) -> str:
    """Return what a daemon says that cannot start."""
    done = subprocess.run(
        daemon.command, capture_output=True, text=True, timeout=60, env=daemon.environ, cwd=daemon.folder, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    made = DaemonFixture()
    yield made
    made.close()


def test_a_file_in_place_of_the_state_folder_is_left_alone(daemon: DaemonFixture) -> None:
    (daemon.folder / "state").write_text("precious")
    assert f"state folder {daemon.folder}/state cannot be made" in refused(daemon)
    assert (daemon.folder / "state").read_text() == "precious"


def test_a_state_folder_that_cannot_be_written_is_named(daemon: DaemonFixture) -> None:
    state = daemon.folder / "state"
    state.mkdir()
    (state / "precious").write_text("precious")
    state.chmod(0o500)
    if os.access(state, os.W_OK):  # root may write anywhere, but not on what is mounted read-only
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(state)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs not to be root, or the right to mount a tmpfs")
    try:
        assert f"state folder {state} cannot be written; give another --state-dir" in refused(daemon)
    finally:
        subprocess.run(["umount", str(state)], capture_output=True, check=False)
        state.chmod(0o700)
    assert (state / "precious").read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"not a secret"])
def test_a_corrupt_secret_is_named_and_left_alone(daemon: DaemonFixture, content: bytes) -> None:
    runtime = Path(f"{daemon.socket}.d")
    runtime.mkdir(0o700)
    (runtime / "link.secret").write_bytes(content)
    assert f"{runtime}/link.secret is not a start-up secret" in refused(daemon)
    assert (runtime / "link.secret").read_bytes() == content


def test_a_corrupt_nursery_file_does_no_harm(daemon: DaemonFixture) -> None:
    runtime = Path(f"{daemon.socket}.d")
    runtime.mkdir(0o700)
    (runtime / "nursery.pid").write_bytes(b"\xff1\n")
    with daemon, Wire(daemon.socket) as client:
        assert client.read(client.ask("hi"))[0] == "hi"


def test_a_runtime_folder_that_is_open_to_others_is_refused(daemon: DaemonFixture) -> None:
    runtime = Path(f"{daemon.socket}.d")
    runtime.mkdir(0o755)
    assert f"run `chmod 700 {runtime}`" in refused(daemon)


def test_a_full_disk_is_named_at_the_start_and_survived_later(daemon: DaemonFixture) -> None:
    runtime = Path(f"{daemon.socket}.d")
    runtime.mkdir(0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", str(runtime)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root with the right to mount a tmpfs")
    try:
        fill = runtime / "fill"
        with fill.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        assert "No space left on device" in refused(daemon)
        fill.unlink()
        daemon.start()
        with Wire(daemon.socket) as client:
            assert client.read(client.ask("hi"))[0] == "hi"
            with fill.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(b"x" * 4096)
            assert client.read(client.ask("still here"))[0] == "still here"
            client.call("unload", model="ember")
            fill.unlink()
            assert client.read(client.ask("and again"))[0] == "and again"
        assert daemon.stop() == 0
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.stop()
        subprocess.run(["umount", str(runtime)], check=True)


def test_when_memory_runs_out_a_worker_goes_before_the_broker(daemon: DaemonFixture) -> None:
    with daemon, Wire(daemon.socket) as client:
        client.read(client.ask("hi"))
        broker = client.call("status")["daemon"]["pid"]
        worker = client.call("models")["models"][0]["pid"]
        scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (broker, worker)]
        assert scores[1] >= scores[0] + 500


EATER = """
import sys
with open(sys.argv[1], "wb", buffering=0) as file:
    for line in sys.stdin:
        file.write(bytes(1 << 16))
        print("ate", flush=True)
"""


@pytest.fixture
def limited() -> Iterator[Limit]:
    """A control group whose memory has a limit; it is removed once its processes have gone."""
    try:
        limit = Limit(f"ingle-test-{os.getpid()}")
        limit.set(128 << 20)
    except OSError as error:
        pytest.skip(f"no control group with a limit can be made here: {error}")
    with limit:
        yield limit


def test_when_the_kernel_ends_a_worker_for_memory_its_stream_goes_on_and_the_reason_is_told(limited: Limit) -> None:
    config = '[models.slow]\nsource = "builtin:ember"\necho = {delay_ms = 2}'
    text = " ".join(f"w{i}" for i in range(3000))
    file = Path("/dev/shm") / limited.folder.name  # its pages belong to the group, and to no process
    with DaemonFixture(config) as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        daemon_pids = [other.call("status")["daemon"]["pid"], other.call("status")["nursery"]["pid"]]
        with limited.around(daemon_pids[1]):  # its workers begin there, and it is out of it when that ends
            other.call("load", model="slow")
        id = client.ask(text, body={"max_tokens": 3000})
        client.until("chunk")
        command, pipe = [sys.executable, "-c", EATER, str(file)], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as eater:
            assert eater.stdin is not None
            assert eater.stdout is not None
            limited.take(eater.pid)
            begin = time.monotonic()
            try:
                while not limited.killed:
                    assert time.monotonic() - begin < 60, "the kernel ends nothing"
                    eater.stdin.write("more\n")
                    if eater.stdout.readline() != "ate\n":  # it is the second
                        break
            finally:
                file.unlink()
                eater.stdin.close()
        other.send({"t": "attach", "ref": 1, "id": id, "offset": 0, "credit": 256})
        got, end = other.read(id)
        assert (got, end["t"], end["resumed"]) == (text, "done", 1)
        with Wire(daemon.socket) as third:
            assert [third.call("status")["daemon"]["pid"], third.call("status")["nursery"]["pid"]] == daemon_pids
            story = third.call("show", model="slow")["story"]
        assert any("the worker ended: killed by SIGKILL (the kernel ran out of memory)" in line for line in story), (
            story
        )


def test_who_is_killed_while_the_kernel_ends_another_program_for_memory_did_not_run_out_of_it(limited: Limit) -> None:
    with DaemonFixture('[models.a]\nsource = "/a"') as daemon, Wire(daemon.socket) as client:
        client.call("load", model="a")
        model = client.call("show", model="a")
        if not kills.counter(model["pid"]).is_relative_to("/sys/fs/cgroup"):
            pytest.skip("the kernel counts for the whole machine alone here")
        eats = [*limited.command, sys.executable, "-c", "bytearray(1 << 29)"]
        assert subprocess.run(eats, timeout=60, check=False).returncode == -signal.SIGKILL and limited.killed
        os.kill(model["pid"], signal.SIGKILL)
        wait_until(lambda: "killed by SIGKILL" in str(client.call("show", model="a")["story"]))
        shown = client.call("show", model="a")
        assert "ran out of memory" not in str(shown)
        assert client.call("plan", model="a")["note"] is None, "and it is not taken to need more"


JUMPING = """
import os, time
real, path = time.time, os.environ["JUMPS"]
def jumping():
    with open(path) as file:
        return real() + float(file.read() or 0)
time.time = jumping
"""
"""Is run by each Python that starts: the clock of all of the daemon's processes jumps by what a file says."""
YEAR = 365 * 86_400


def test_a_clock_that_jumps_years_ahead_and_back_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    jumps = tmp_path / "jumps"
    jumps.write_text("0")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    config = '[daemon]\nkeep = 3600\nadopt_grace = 60\n[models.slow]\nsource = "builtin:ember"\necho = {delay_ms = 1}'
    text = " ".join(f"w{i}" for i in range(1500))
    environ = {"PYTHONPATH": path, "JUMPS": str(jumps)}
    with DaemonFixture(config, environ=environ) as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        other.call("load", model="slow")
        pids = daemon.processes()
        kept = other.ask("kept", detach=True)
        other.read(kept)
        id = client.ask(text, body={"max_tokens": 1500}, deadline_ms=600_000)
        assert client.until("chunk")[-1]["o"] == 0
        for ahead in (40 * YEAR, -20 * YEAR):
            jumps.write_text(str(ahead))
            assert other.read(other.ask("still here"))[0] == "still here"
        client.send({"t": "attach", "ref": 1, "id": id, "offset": 0, "credit": 256})
        client.until("accepted")
        got, end = client.read(id)
        assert (got, end["t"], end.get("resumed", 0)) == (text, "done", 0)
        other.send({"t": "attach", "ref": 2, "id": kept, "offset": 0, "credit": 8})
        assert other.read(kept)[0] == "kept"
        assert daemon.processes() == pids, "nobody's lease has ended"
        daemon.stop()
        assert time.strftime("%Y", time.localtime(time.time() - 20 * YEAR)) in daemon.log.read_text(), "it has jumped"


WALL_CLOCK = {
    "ledger.py": [
        "at, load_s = round(time.time(), 3)",
        "0.0, 0, round(time.time(), 3), short=bytes",
        "Limits(round(time.time(), 3)",
        "Asked(round(time.time(), 3)",
    ],
    "popularity.py": ["max(0.0, time.time() - ledger.asked.at)"],
    "allowances.py": ["max(0.0, time.time() - limits.at)"],
    "core_client.py": ["one.arrival_time = request.priority, time.time()"],
}
"""Dates in a file that is kept over restarts, and how long it was kept; and what vLLM orders equal priorities by."""


def test_nothing_depends_on_the_wall_clock() -> None:
    """A clock that jumps changes no deadline, lease or pause: the daemon reads the monotonic clock only."""
    for path in [*ROOT.glob("daemon/ingled/**/*.py"), *ROOT.glob("client/ingle/**/*.py")]:
        text = path.read_text()
        for allowed in WALL_CLOCK.get(path.name, []):
            text = text.replace(allowed, "")
        assert not re.search(r"\btime\.time\(|\bfrom time import time\b|datetime\.(now|utcnow)\(", text), path
