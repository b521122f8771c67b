"""The daemon's sockets: made where a dead one may be, and never where somebody is."""

import contextlib
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ingle.address import LONGEST
from ingled.broker.listen import CannotListen, being_made, listen

ROUNDS = 3000


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(prefix="igl-") as folder:
        yield Path(folder) / "s"


def test_who_comes_while_a_dead_daemon_s_socket_is_replaced_never_finds_nothing(path: Path) -> None:
    """It is refused, or it waits to be accepted: nothing else may happen in between."""
    seen: set[str] = set()
    over = threading.Event()

    def come() -> None:
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as one:
                try:
                    one.connect(str(path))
                except OSError as error:
                    seen.add(type(error).__name__)

    socket.socket(fileno=listen(path, 0o600)).close()
    coming = threading.Thread(target=come)
    coming.start()
    try:
        for _ in range(ROUNDS):
            server = None
            while server is None:
                with contextlib.suppress(CannotListen):
                    server = socket.socket(fileno=listen(path, 0o600))
            server.close()
    finally:
        over.set()
        coming.join()
    assert seen <= {"ConnectionRefusedError", "ConnectionResetError"}, seen


def test_a_socket_has_its_mode_and_nothing_else_is_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(being_made(path)))  # of a daemon that was killed in this moment
    with socket.socket(fileno=listen(path, 0o660)), socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert list(path.parent.iterdir()) == [path]


def test_somebody_s_socket_and_somebody_s_file_are_left_alone(path: Path) -> None:
    with socket.socket(fileno=listen(path, 0o600)), pytest.raises(CannotListen, match="something else listens"):
        listen(path, 0o600)
    path.unlink()
    path.write_text("precious")
    with pytest.raises(CannotListen, match="is not a socket; remove it"):
        listen(path, 0o600)
    assert path.read_text() == "precious"


def test_a_file_with_the_name_of_a_socket_that_is_being_made_is_left_alone(path: Path) -> None:
    being_made(path).write_text("precious")
    with pytest.raises(CannotListen, match=f"Address already in use, while it was {being_made(path)}"):
        listen(path, 0o600)
    assert being_made(path).read_text() == "precious"


@pytest.mark.parametrize("first", "s~")
def test_the_longest_path_that_a_socket_may_have(path: Path, first: str) -> None:
    longest = path.with_name(first + "x" * (LONGEST - len(str(path))))
    assert len(str(longest)) == LONGEST
    with socket.socket(fileno=listen(longest, 0o600)), socket.socket(socket.AF_UNIX) as one:
        one.connect(str(longest))
