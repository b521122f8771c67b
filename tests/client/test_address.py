"""Where the socket is looked for."""

from pathlib import Path

import pytest
from ingle import address


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("INGLE_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def test_what_is_given_wins_then_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGLE_SOCKET", "/b")
    assert address.find("/a") == "/a"
    assert address.find() == "/b"


def test_without_any_daemon_the_first_place_is_named(folder: Path) -> None:
    assert address.find() == str(folder / "ingle" / "ingle.sock")
    assert address.runtime_dir() == str(folder / "ingle")


def test_the_private_folder_in_tmp_must_be_ours_alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    private = folder / "private"
    monkeypatch.setattr(address, "_private_tmp", lambda user: str(private))
    private.mkdir(mode=0o700)
    (private / "ingle.sock").touch()
    assert address.find() == str(private / "ingle.sock")
    private.chmod(0o755)
    assert address.find() == str(folder / "ingle" / "ingle.sock")
    assert str(private / "ingle.sock") not in address.candidates()


def test_without_the_variable_the_users_own_folder_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert address.runtime_dir().startswith(("/run/user/", "/tmp/ingle-"))
