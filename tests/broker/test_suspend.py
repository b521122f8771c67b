"""What is said where nobody tells that the machine is suspended: in words, and once."""

import asyncio
import socket
from pathlib import Path

import pytest
from ingled.broker import suspend
from ingled.broker.suspend import Suspend
from ingled.core.events import Survival


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == suspend.__name__]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Try again without a pause, at a socket that a test may make."""
    caplog.set_level("INFO")
    monkeypatch.setattr(suspend, "RETRY_S", 0.0)
    monkeypatch.setenv(suspend.ADDRESS, f"unix:path={tmp_path}/bus")


async def listening(until: asyncio.Event) -> None:
    """Listen until that; then no more."""
    one = Suspend(asyncio.get_running_loop(), lambda event: None, lambda: Survival.STAYS)
    one.use(True)
    await asyncio.wait_for(until.wait(), 60)
    one.close()


def test_a_bus_that_refuses_each_connection_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        several, count = asyncio.Event(), 0
        writers: list[asyncio.StreamWriter] = []

        def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            writers.append(writer)
            writer.write(b"ERROR nobody is let in\r\n")
            if count == 5:
                several.set()

        async with await asyncio.start_unix_server(met, tmp_path / "bus"):
            await listening(several)
            for writer in writers:
                writer.close()

    asyncio.run(run())
    first, last = said(caplog)
    assert first.startswith("models are not made ready when the machine is suspended, all else works: the system bus")
    assert last.endswith("the daemon ends")


@pytest.mark.parametrize(("there", "words"), [(False, "does not exist"), (True, "nobody listens at")])
def test_that_there_is_no_bus_is_told_in_words(
    there: bool, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if there:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(tmp_path / "bus"))

    async def run() -> None:
        now = asyncio.Event()
        now.set()
        await listening(now)

    asyncio.run(run())
    assert "there is no system bus: " in said(caplog)[0]
    assert words in said(caplog)[0] and f"{tmp_path}/bus" in said(caplog)[0] and "Errno" not in said(caplog)[0]
