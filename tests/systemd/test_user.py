"""A user's own service: the units, and that they do under a user's systemd what those of the machine do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ingled.unit import SOCKET, quoted, service

ROOT = Path(__file__).parents[2]
INGLED = [sys.executable, "-P", "-m", "ingled"]
ASK = """
import os
from ingle import Client
with Client(os.environ["XDG_RUNTIME_DIR"] + "/ingle/ingle.sock", timeout=60) as client:
    print(client.chat("one two three").text)
"""


def test_the_files_are_what_the_command_prints() -> None:
    folder = ROOT / "systemd/user"
    assert (folder / "ingled.service").read_text() == service("%h/.local/bin/ingled", "%h/.local/bin/ingle")
    assert (folder / "ingled.socket").read_text() == SOCKET
    done = subprocess.run([*INGLED, "unit", "--user"], capture_output=True, text=True, check=True)
    expected = service(f"{sys.executable} -P -m ingled", f"{sys.executable} -P -m ingle")
    assert done.stdout == f"# ---- ingled.service\n{expected}\n# ---- ingled.socket\n{SOCKET}"


def test_without_user_it_says_what_to_do() -> None:
    done = subprocess.run([*INGLED, "unit"], capture_output=True, text=True, check=False)
    assert (done.returncode, "make install" in done.stderr) == (2, True)


def test_install_writes_them_where_systemd_looks(tmp_path: Path) -> None:
    environ = dict(os.environ, XDG_CONFIG_HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    for _ in range(2):
        command = [*INGLED, "unit", "--user", "--install"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert "systemctl --user enable --now ingled" in done.stdout
    written = sorted(path.name for path in (tmp_path / "systemd/user").iterdir())
    assert written == ["ingled.service", "ingled.socket"]


def test_a_path_with_blanks_and_percents_is_written_as_systemd_reads_it() -> None:
    assert quoted("/opt/my models/50%/ingled") == '"/opt/my models/50%%/ingled"'
    assert quoted("/usr/bin/ingled") == "/usr/bin/ingled"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_users_service_starts_on_demand_stays_warm_over_a_restart_and_stops(box: Any) -> None:
    uid = box.out("id", "-u", "ann")
    box.run("systemctl", "start", f"user@{uid}.service")
    env = ["env", "HOME=/home/ann", f"XDG_RUNTIME_DIR=/run/user/{uid}"]

    def user(*words: str) -> str:
        return str(box.out(*env, *words, user="ann"))

    assert "installed:" in user("/usr/local/bin/ingled", "unit", "--user", "--install")
    config = '[models.echo]\nsource = "builtin:ember"\npreload = true\ndefault = true\n'
    user("mkdir", "-p", "/home/ann/.config/ingle", "/home/ann/.config/systemd/user/ingled.service.d")
    box.write("/home/ann/.config/ingle/ingled.toml", config)
    echo = "[Service]\nExecStart=\nExecStart=/usr/local/bin/ingled --engine echo\n"
    box.write("/home/ann/.config/systemd/user/ingled.service.d/test.conf", echo)
    user("systemctl", "--user", "daemon-reload")
    user("systemctl", "--user", "start", "ingled.socket")
    show = ["systemctl", "--user", "show", "-p", "ActiveState,StatusText,Result", "--value", "ingled"]
    assert "inactive" in user(*show)
    assert user("/usr/local/lib/ingle/bin/python", "-P", "-c", ASK) == "one two three"
    box.until(lambda: "models ready" in user(*show) and "loading" not in user(*show))
    models = ["/usr/local/bin/ingle", "models", "--json"]

    def pids() -> dict[str, int]:
        return {model["name"]: model["pid"] for model in json.loads(user(*models))["models"] if model["pid"]}

    before = pids()
    assert {"echo", "slow"} <= set(before), "the machine's models and the user's own"
    user("systemctl", "--user", "restart", "ingled")
    box.until(lambda: pids() == before)  # the daemon does not wait for ever for workers that come back
    assert "INFO" in user("/usr/local/bin/ingle", "logs") or "ready" in user("/usr/local/bin/ingle", "logs")
    user("systemctl", "--user", "stop", "ingled.socket", "ingled")
    assert "inactive" in user(*show) and "success" in user(*show)
    assert box.run("pgrep", "-u", "ann", "-f", "ingled", check=False).stdout == ""
    box.run("systemctl", "stop", f"user@{uid}.service")
