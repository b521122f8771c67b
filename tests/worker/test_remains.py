"""What a worker has in /dev/shm is written down, and goes with its folder."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled import remains


@pytest.fixture
def shared() -> Iterator[Path]:
    """A file in memory that this process has mapped."""
    with tempfile.NamedTemporaryFile(dir=remains.SHARED, prefix="ig", delete=False) as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096):
            yield Path(file.name)
    Path(file.name).unlink(missing_ok=True)


def test_it_goes_with_the_folder(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    folder.mkdir()
    remains.note(folder, [os.getpid()])
    remains.remove(folder)
    assert not shared.exists() and not folder.exists()


def test_that_it_cannot_be_written_down_is_logged_and_stops_nobody(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remains.note(tmp_path / "nowhere", [os.getpid()])
    assert "is not written down" in caplog.text and shared.exists()
