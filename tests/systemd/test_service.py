"""The service under a real systemd: its daemon is killed, hangs and is stopped, and nothing is lost or left."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
UNIT = HERE.parents[1] / "systemd/user/ingled.service"
NEEDED = ("unshare", "nsenter", "systemctl")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to boot a systemd in namespaces"),
    pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}"),
]

CONFIG = """
[daemon]
adopt_grace = 30
[models.slow]
source = "builtin:ember"
preload = true
echo = {delay_ms = 2}
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def box() -> Iterator[Run]:
    """A booted systemd; the fixture runs a command in it."""
    with tempfile.TemporaryDirectory(prefix="ingle-box-") as name:
        folder = Path(name)
        command = f"{sys.executable} -P -m ingled --engine echo --config {name}/ingled.toml"
        unit = re.sub(r"ExecStart=.*", f"ExecStart={command} --socket /run/ingle/ingle.sock", UNIT.read_text())
        unit = unit.replace("WatchdogSec=30", "WatchdogSec=3").replace("[Service]", "[Service]\nRuntimeDirectory=ingle")
        unit = unit.replace("RestartSec=1", "RestartSec=100ms\nRuntimeDirectoryPreserve=restart")
        (folder / "ingled.service").write_text(unit)
        (folder / "ingled.toml").write_text(CONFIG)
        root = HERE.parents[1]  # the box has a /tmp of its own, and this checkout may be in the real one
        setup = f"cp {name}/ingled.service $ROOT/etc/systemd/system/\nmkdir -p $ROOT{root}\n"
        (folder / "setup.sh").write_text(setup + f"mount --rbind {root} $ROOT{root}\n")
        script = str(HERE / "box.sh")
        done = subprocess.run([script, "start", name], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            subprocess.run([script, "stop", name], capture_output=True, timeout=60, check=False)
            pytest.skip(f"needs overlayfs, cgroup2 and namespaces: {done.stderr[-500:]}")

        def run(*command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
            found = subprocess.run(
                [script, "exec", name, *command], capture_output=True, text=True, timeout=120, check=False
            )
            if check and found.returncode:
                log = subprocess.run(
                    [script, "exec", name, "journalctl", "--no-pager", "-u", "ingled", "-n", "40"],
                    capture_output=True,
                    text=True,
                    check=False,
                ).stdout
                raise AssertionError(f"{command}: {found.stdout}{found.stderr}\n{log}")
            return found

        try:
            yield run
        finally:
            subprocess.run([script, "stop", name], capture_output=True, timeout=60, check=False)


def show(box: Run, name: str) -> str:
    return box("systemctl", "show", "-p", name, "--value", "ingled").stdout.strip()


def drive(box: Run, step: str) -> str:
    printed = box(sys.executable, "-P", str(HERE / "driver.py"), step).stdout
    print(printed)
    return printed


def test_the_service_starts_and_says_so(box: Run) -> None:
    box("systemctl", "start", "ingled")
    assert (show(box, "ActiveState"), show(box, "StatusText")) == ("active", "serving")
    assert (
        "ready" in box(sys.executable, "-P", "-m", "ingle", "--socket", "/run/ingle/ingle.sock", "load", "slow").stdout
    )


def test_a_killed_daemon_is_started_again_and_adopts_what_ran(box: Run) -> None:
    assert drive(box, "kill").endswith("restarts 1\n")


def test_a_killed_nursery_is_replaced_and_the_workers_live_on(box: Run) -> None:
    drive(box, "nursery")


def test_a_daemon_that_hangs_is_replaced_by_the_watchdog(box: Run) -> None:
    assert drive(box, "hang").endswith("restarts 2\n")


def test_stop_leaves_nothing(box: Run) -> None:
    box("systemctl", "stop", "ingled")
    assert (show(box, "ActiveState"), show(box, "Result")) == ("inactive", "success")
    left = box("pgrep", "-f", "ingled", check=False).stdout
    assert left == ""
    assert not box("ls", "/run/ingle", check=False).stdout
