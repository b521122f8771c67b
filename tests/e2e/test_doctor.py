"""`ingle doctor` with a daemon, and without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture


def test_the_daemon_looks_where_there_is_one() -> None:
    with DaemonFixture('[models.a]\nsource = "/a"\n[models.b]\nsource = "/b"\nmemory = "9TB"\n') as daemon:
        done = daemon.cli("doctor")
        assert done.returncode == 5, done.stderr
        assert "daemon" in done.stdout.splitlines()[0] and "it answers" in done.stdout
        assert "-> `ingle plan b` says what would fit" in done.stdout
        done = daemon.cli("doctor", "--json")
        states = {one["check"]: one["state"] for one in json.loads(done.stdout)["findings"]}
        assert (states["model a"], states["model b"], states["daemon"]) == ("good", "broken", "good")


@pytest.mark.timeout(600)  # it imports the engine
def test_without_a_daemon_the_command_looks(tmp_path: Path) -> None:
    config = tmp_path / "ingle"
    config.mkdir()
    (config / "ingled.toml").write_text('[models.gone]\nsource = "/nowhere"\n[daemon]\nbogus = 1\n')
    environ = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "ingle", "doctor", "--json", "--socket", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=500)
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 5
    assert findings[0]["check"] == "daemon" and findings[0]["state"] == "warning" and findings[0]["remedy"]
    assert any("daemon.bogus" in one["text"] and one["state"] == "broken" for one in findings)
