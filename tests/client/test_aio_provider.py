"""Hooks that await, on the loop of the program that offers them."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from ingle.aio import Provider
from ingle.errors import Unreachable
from ingle.hooks import Stop, changed, hook, note

HI = {"messages": [{"role": "user", "content": "hi"}]}


async def result(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return dict((await asyncio.to_thread(ask))["results"][0])


def test_a_hook_awaits_on_the_programs_loop_and_others_get_on_meanwhile(daemon: Any) -> None:
    async def main() -> None:
        loop, go = asyncio.get_running_loop(), asyncio.Event()

        @hook("prompt", name="waits")
        async def waits(messages: Any) -> Any:
            assert asyncio.get_running_loop() is loop
            await go.wait()
            return changed([*messages, messages[0]])

        @hook("prompt", name="plain")
        def plain(messages: Any) -> Any:
            loop.call_soon_threadsafe(go.set)
            return note(seen=len(messages))

        async with Provider(waits, plain, socket=daemon.path) as provider:
            more = {"deadline_ms": 20000}
            slow, quick = await asyncio.gather(
                result(lambda: daemon.hook_call("prompt", HI, "waits", **more)),
                result(lambda: daemon.hook_call("prompt", HI, "plain", **more)),
            )
            assert (slow["verdict"], quick["note"]) == ("changed", {"seen": 1})
            await provider.withdraw("plain")
            assert (await provider.offer(plain))["name"] == "plain"

    asyncio.run(main())


def test_one_that_is_late_is_cancelled_and_has_failed(daemon: Any) -> None:
    async def main() -> None:
        cancelled = asyncio.Event()

        @hook("prompt", name="late", deadline_ms=60_000)
        async def late(messages: Any) -> Any:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        @hook("prompt", name="raises")
        async def raises(messages: Any) -> Any:
            raise TimeoutError("its own")

        def call(deadline_ms: int) -> Any:
            return daemon.hook_call("prompt", HI, "late", deadline_ms=deadline_ms)

        async with Provider(late, raises, socket=daemon.path, on_error=lambda *_: None):
            reasons: list[str] = []
            while not cancelled.is_set():  # on a busy machine its time may be over before it has begun
                said = await result(partial(call, 100 * 4 ** len(reasons)))
                assert said["verdict"] == "error"
                reasons.append(said["reason"])
            assert "it was not done in time, and has been cancelled" in reasons
            said = await result(lambda: daemon.hook_call("prompt", HI, "raises"))
            assert said["reason"] == "TimeoutError: its own"

    asyncio.run(main())


def test_handlers_may_await_too(daemon: Any) -> None:
    class Swaps:
        rest = ""

        @property
        def held(self) -> int:
            return len(self.rest)

        async def feed(self, text: str) -> str:
            await asyncio.sleep(0)
            if "!" in text:
                raise Stop("enough", "the end")
            self.rest, out = text[-1:], self.rest + text[:-1]
            return out.upper()

        async def flush(self) -> str:
            rest, self.rest = self.rest, ""
            return rest

    @hook("chunk", name="swaps")
    async def swaps() -> Swaps:
        return Swaps()

    async def main() -> None:
        def chunk(text: str, seq: int, **more: Any) -> Any:
            return daemon.hook_call("chunk", {"text": text}, "swaps", seq=seq, **more)

        async with Provider(swaps, socket=daemon.path):
            first = await asyncio.to_thread(chunk, "ab", 0)
            assert (first["value"], first["results"][0]["held"]) == ({"text": "A"}, 1)
            assert (await asyncio.to_thread(chunk, "c", 1, last=True))["value"] == {"text": "Bc"}
            last = await asyncio.to_thread(chunk, "!", 0)
            assert (last["value"], last["results"][0]["verdict"]) == ({"text": "the end"}, "stop")

    asyncio.run(main())


def test_without_a_daemon_there_are_no_hooks(tmp_path: Any) -> None:
    @hook("prompt", name="any")
    async def anything(messages: Any) -> Any:
        return None

    async def main() -> None:
        provider = Provider(anything, socket=str(tmp_path / "nobody"))
        with pytest.raises(Unreachable):
            async with provider:
                pass
        with pytest.raises(RuntimeError, match="async with"):
            await provider.withdraw("any")

    asyncio.run(main())
