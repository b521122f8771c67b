"""Trouble with the machine: each kind has a message that says what is wrong, and nothing is deleted to get on."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire

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


def test_nothing_depends_on_the_wall_clock() -> None:
    """A clock that jumps changes no deadline, lease or pause: the daemon reads the monotonic clock only."""
    for path in [*ROOT.glob("daemon/ingled/**/*.py"), *ROOT.glob("client/ingle/**/*.py")]:
        text = path.read_text()
        assert not re.search(r"\btime\.time\(|\bfrom time import time\b|datetime\.(now|utcnow)\(", text), path
