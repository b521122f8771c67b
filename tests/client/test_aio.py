"""The asyncio client against a real ROUTER."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ingle import async_line
from ingle.aio import Client
from ingle.async_line import AsyncLine
from ingle.errors import Cancelled, DaemonFailed, IngleError, NoSuchModel, ProtocolError, Unreachable
from ingle.zmtp import Dealer

from tests.client.answers import TEXT


def run(daemon: Any, scene: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(100), Client(daemon.path, **options) as client:
            await scene(client)

    asyncio.run(main(), debug=True)


def test_whole_and_streamed_answers(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        seen: list[Any] = []
        assert (await client.chat("hi", on_progress=seen.append)).text == TEXT
        assert seen[0].percent == 40
        async with client.complete("hi", stream=True) as stream:
            text = "".join([delta.text async for delta in stream])
        assert text == TEXT == stream.answer.text == stream.text
        assert stream.id == "r2"
        assert (await client.complete("say:x")).text == "x"

    run(daemon, scene)


def test_many_at_once(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        answers = await asyncio.gather(*(client.chat(f"say:{n}") for n in range(20)))
        assert [answer.text for answer in answers] == [str(n) for n in range(20)]

    run(daemon, scene)


@pytest.mark.parametrize("stream", [True, False])
def test_cancelling_the_task_cancels_the_request(daemon: Any, stream: bool) -> None:
    async def scene(client: Client) -> None:
        async def wait() -> None:
            if stream:
                async for _ in client.chat("forever", stream=True):
                    pass
            else:
                await client.chat("forever")

        async with asyncio.TaskGroup() as group:
            task = group.create_task(wait())
            await asyncio.to_thread(daemon.wait_for, "request")
            task.cancel()
        await asyncio.to_thread(daemon.wait_for, "cancel", id="r1")
        assert (await client.status()).daemon.pid == 5

    run(daemon, scene)


def test_cancel_and_attach(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        stream = client.chat("forever", stream=True)
        await anext(stream)
        stream.cancel()
        with pytest.raises(Cancelled):
            await stream.read()
        with pytest.raises(ValueError, match="not ended"):
            _ = stream.answer
        assert await client.cancel("nobody") is False
        assert await client.cancel("r1") is True
        daemon.answers["r1"].endless = False
        assert (await client.attach("r1", 5).read()).text == TEXT[5:]
        daemon.answers["r1"].begin = 5
        left = client.attach("r1")
        assert left.offset is None
        assert (await left.read()).text == TEXT[5:]
        assert left.offset == 5

    run(daemon, scene)


def test_calls_and_failures(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        assert [model.name for model in await client.models()] == ["tiny", "cold-one"]
        assert (await client.show("tiny")).story == ["loaded"]
        assert await client.requests() == []
        assert await client.load("tiny") == "ready"
        seen: list[Any] = []
        assert await client.load("tiny", on_progress=seen.append) == "ready"
        assert [progress.percent for progress in seen] == [70]
        assert await client.unload("tiny") == "cold"
        with pytest.raises(NoSuchModel):
            await client.load("nobody")
        with pytest.raises(NoSuchModel):
            await client.chat("fail:no_such_model")

    run(daemon, scene)


def test_events(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        async with client.events(["daemon"]) as events:
            await asyncio.to_thread(daemon.wait_for, "subscribe")
            daemon.emit("daemon", {"what": "draining"})
            assert (await anext(events)).value == {"what": "draining"}
        await asyncio.to_thread(daemon.wait_for, "cancel", id="s1")

    run(daemon, scene)


@pytest.mark.parametrize("forget", [False, True])
def test_a_restart(daemon: Any, forget: bool) -> None:
    async def scene(client: Client) -> None:
        stream = client.chat("hi", stream=True)
        await anext(stream)
        await asyncio.to_thread(daemon.restart, forget=forget)
        if forget:
            with pytest.raises(DaemonFailed, match="no longer knows"):
                await stream.read()
        else:
            assert (await stream.read()).text == TEXT

    run(daemon, scene)


def test_a_daemon_that_was_away_hears_that_its_client_has_left(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_line, "FAREWELL_S", 60)
    back: list[asyncio.Future[None]] = []

    async def scene(client: Client) -> None:
        await anext(client.chat("forever", stream=True))
        await asyncio.to_thread(daemon.down)
        while client._line.session.state != "down":
            await asyncio.sleep(0.01)
        daemon.forget()
        back.append(asyncio.get_running_loop().run_in_executor(None, daemon.up))

    run(daemon, scene)
    daemon.wait_for("bye")
    assert [message["t"] for message in daemon.received] == ["hello", "attach", "bye"]


def test_a_daemon_that_stays_away_is_not_waited_for_long(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_line, "FAREWELL_S", 0.1)

    async def scene(client: Client) -> None:
        await anext(client.chat("forever", stream=True))
        await asyncio.to_thread(daemon.down)

    run(daemon, scene)


def test_what_nobody_waits_for_is_not_asked_again(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        daemon.silent.add("call")
        async with asyncio.TaskGroup() as group:
            waits = group.create_task(client.load("tiny"))
            await asyncio.to_thread(daemon.wait_for, "call", verb="load")
            waits.cancel()
        await asyncio.to_thread(daemon.down)
        daemon.silent.clear()
        daemon.forget()
        await asyncio.to_thread(daemon.up)
        await client.status()
        assert [message["verb"] for message in daemon.received if message["t"] == "call"] == ["status"]

    run(daemon, scene)


def hurry(client: Client) -> None:
    """Let a client that is connected wait no longer than a moment from now on."""
    line = client._line
    assert line is not None
    line.timeout = line.session.patience = 0.2


def test_patience_ends(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        stream = client.chat("forever", stream=True)
        await anext(stream)
        hurry(client)
        await asyncio.to_thread(daemon.down)
        with pytest.raises(Unreachable) as caught:
            await stream.read()
        assert caught.value.reason == "lost"
        daemon.up()

    run(daemon, scene)


def test_a_daemon_that_is_just_coming_back_is_waited_for(daemon: Any) -> None:
    daemon.down()
    with socket.socket(socket.AF_UNIX) as dead:  # what a killed daemon leaves
        dead.bind(daemon.path)

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            Dealer(daemon.path)
        async with asyncio.TaskGroup() as group:
            coming = group.create_task(Client(daemon.path, timeout=60).__aenter__())
            await asyncio.sleep(0)  # it has been refused once
            assert not coming.done()
            await asyncio.to_thread(daemon.up)
        client = coming.result()
        assert (await client.status()).daemon.pid == 5
        client.close()

    asyncio.run(main(), debug=True)


def test_silence_and_nonsense(daemon: Any, folder: Path) -> None:
    async def scene(client: Client) -> None:
        daemon.silent.add("call")
        hurry(client)
        with pytest.raises(Unreachable, match="does not answer"):
            await client.status()
        daemon.raw(b"\xc1")
        with pytest.raises(ProtocolError):
            await client.chat("forever")

    run(daemon, scene)
    daemon.silent.add("hello")

    async def never(client: Client) -> None:
        raise AssertionError

    with pytest.raises(Unreachable, match="does not answer"):
        run(daemon, never, timeout=0.2)
    daemon.path = str(folder / "none")
    with pytest.raises(Unreachable, match="nothing is there"):
        run(daemon, never)


def test_a_connection_that_breaks_at_its_first_write_is_tried_again(daemon: Any) -> None:
    class Leaving(Dealer):
        def send(self, *frames: bytes) -> None:
            raise BrokenPipeError

    async def main() -> None:
        line = AsyncLine(daemon.path, "test", (), 60.0)
        line.session.start(asyncio.get_running_loop().time())
        line._plug(Leaving(daemon.path))
        assert line._dealer is None, "the write has failed"
        async with asyncio.timeout(50):
            while line.session.state != "open":
                await line._wait(line._opened)
        line.close()

    asyncio.run(main(), debug=True)


def test_a_client_must_be_entered() -> None:
    client = Client("/none")
    client.close()
    with pytest.raises(IngleError, match="async with"):
        client.chat("hi", stream=True)


def test_a_large_prompt_is_written_as_the_socket_takes_it(daemon: Any) -> None:
    async def scene(client: Client) -> None:
        text = "x" * (3 << 20)
        assert (await client.chat(f"say:{text}")).text == text

    run(daemon, scene)
