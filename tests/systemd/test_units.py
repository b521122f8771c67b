"""The units as files: systemd finds nothing wrong with them."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (systemd)")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.glob("user/*.service"):
        command = ["systemd-analyze", "verify", "--user", str(unit)]
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        found = [line for line in done.stderr.splitlines() if "is not executable" not in line]
        assert found == [], "verify exits 0 for keys that it does not know: its output is what counts"


def test_a_worker_outlives_the_daemon_under_systemd() -> None:
    assert "\nKillMode=process\n" in (UNITS / "user/ingled.service").read_text()
