"""`make install` as files: where they go, twice the same, and all of them away again."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / ".ci" / "install.py"


@pytest.fixture(scope="module")
def install() -> ModuleType:
    """The script as a module; it stands on no import path."""
    spec = importlib.util.spec_from_file_location("ingle_ci_install", INSTALL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*options: str) -> None:
    subprocess.run([sys.executable, str(INSTALL), *options], check=True, timeout=100, stdout=subprocess.DEVNULL)


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Return what is below a folder, with mode and time of change."""
    found = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return {str(path.relative_to(root)): (path.lstat().st_mode & 0o777, path.lstat().st_mtime_ns) for path in found}


def test_for_the_machine_it_goes_below_usr_local_and_doing_it_twice_changes_nothing(tmp_path: Path) -> None:
    options = ("--files-only", "--system", "--destdir", str(tmp_path))
    run(*options)
    first = files(tmp_path)
    assert {
        "usr/local/bin/ingle",
        "usr/local/bin/ingled",
        "usr/local/lib/systemd/system/ingled.socket",
        "usr/local/lib/systemd/system/ingled.service",
        "usr/local/lib/systemd/system/ingle-nursery.service",
        "usr/local/lib/systemd/system/ingled-hooks.service",
        "usr/local/lib/systemd/system/ingle.target",
        "usr/local/lib/systemd/user/ingled.service",
        "usr/local/lib/sysusers.d/ingle.conf",
        "usr/local/lib/tmpfiles.d/ingle.conf",
        "usr/local/share/bash-completion/completions/ingle",
        "usr/local/share/zsh/site-functions/_ingle",
        "usr/local/share/fish/vendor_completions.d/ingle.fish",
        "usr/local/share/doc/ingle/service.md",
    } <= set(first)
    assert os.readlink(tmp_path / "usr/local/bin/ingle") == "/usr/local/lib/ingle/bin/ingle"
    assert {mode for name, (mode, _) in first.items() if "/bin/" not in name} == {0o644}
    run(*options)
    again = files(tmp_path)
    assert {name: state for name, state in again.items() if "/bin/" not in name} == {
        name: state for name, state in first.items() if "/bin/" not in name
    }
    theirs = tmp_path / "usr/local/share/zsh/site-functions/_theirs"
    theirs.touch()
    run("--uninstall", "--system", "--destdir", str(tmp_path))
    left = {str(path.relative_to(tmp_path / "usr/local")) for path in (tmp_path / "usr/local").rglob("*")}
    there = {"bin", "lib", "share", "share/zsh", "share/zsh/site-functions", "share/zsh/site-functions/_theirs"}
    assert left == there, "what is somebody else's stays, and no empty folder"


def test_another_prefix_stands_in_the_units_and_these_are_where_systemd_looks(tmp_path: Path) -> None:
    run("--files-only", "--system", "--prefix", "/opt/ingle", "--destdir", str(tmp_path))
    unit = (tmp_path / "etc/systemd/system/ingled.service").read_text()
    assert "ExecStart=/opt/ingle/lib/ingle/bin/python -P -m ingled --nursery unit" in unit
    assert "/usr/local" not in unit
    assert (tmp_path / "opt/ingle/bin/ingle").is_symlink()


def test_for_a_user_only_the_users_units_are_installed(tmp_path: Path) -> None:
    run("--files-only", "--user", "--prefix", str(tmp_path / "me"))
    unit = (tmp_path / "me/share/systemd/user/ingled.service").read_text()
    assert f"ExecStart={tmp_path}/me/bin/ingled\n" in unit
    assert f"ExecReload={tmp_path}/me/bin/ingle reload\n" in unit
    assert not list(tmp_path.rglob("ingle-nursery.service"))


def test_the_service_gets_no_python_out_of_a_home(install: ModuleType) -> None:
    assert install.in_a_home(Path("/root/.pyenv/versions/3.11.7"))
    assert install.in_a_home(Path("/home/somebody/python"))
    assert not install.in_a_home(Path("/usr"))
    assert not install.in_a_home(Path("/opt/python"))
    layout = install.Layout(Path("/usr/local"), None, True)
    try:
        python = install.python_for(layout)
    except install.Failed as failure:
        assert "outside home folders" in str(failure)
    else:
        assert not install.in_a_home(Path(python).resolve())
