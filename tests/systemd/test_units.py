"""The units as files: systemd finds nothing wrong with them, and rates their sandboxes; the page explains each line."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
PAGE = (ROOT / "docs/service.md").read_text()

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (package systemd)"
)


def settings(unit: str) -> list[str]:
    """Return the names of the settings of a unit's sandbox: those behind the empty line of [Service]."""
    service = (UNITS / "system" / unit).read_text().partition("[Service]")[2].partition("[Install]")[0]
    return re.findall(r"^(\w+)=", service.partition("\n\n")[2], re.MULTILINE)


@needs_analyze
@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_units(scope: str, tmp_path: Path) -> None:
    for unit in (UNITS / scope).iterdir():
        command = ["systemd-analyze", "verify", f"--{scope}", str(unit)]
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        found = [line for line in done.stderr.splitlines() if "is not executable" not in line]
        assert found == [], "verify exits 0 for keys that it does not know: its output is what counts"


@needs_analyze
@pytest.mark.parametrize(
    ("unit", "most"), [("ingled.service", 0.8), ("ingled-hooks.service", 0.8), ("ingle-nursery.service", 1.5)]
)
def test_the_exposure_that_systemd_sees_is_small(unit: str, most: float) -> None:
    limit = f"--threshold={most * 10:.0f}"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", limit, str(UNITS / "system" / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rated = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert rated is not None, done.stderr
    print(unit, rated[1])
    assert float(rated[1]) <= most
    assert done.returncode == 0


@pytest.mark.parametrize("unit", ["ingled.service", "ingled-hooks.service", "ingle-nursery.service"])
def test_the_page_says_what_each_line_of_the_sandbox_is_for(unit: str) -> None:
    assert len(settings(unit)) > 20
    for name in settings(unit):
        assert re.search(rf"^\| .*`{name}=?`?.* \|", PAGE, re.MULTILINE), name


@pytest.mark.parametrize("unit", ["user/ingled.service", "system/ingle-nursery.service", "system/ingled-hooks.service"])
def test_what_outlives_the_daemon_is_not_killed_with_it(unit: str) -> None:
    text = (UNITS / unit).read_text()
    assert "\nKillMode=process\n" in text
    assert "\nOOMPolicy=continue\n" in text


def test_no_unit_has_what_systemd_252_does_not_know() -> None:
    later = ("notify-reload", "RestartSteps", "RestartMaxDelaySec", "MemoryZSwapMax", "PrivatePIDs", "OpenFile")
    for unit in UNITS.glob("*/*"):
        assert [word for word in later if word in unit.read_text()] == [], unit
