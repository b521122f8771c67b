"""What a worker asks its own engine: requests that nobody sees in a count, in vLLM's metrics or in the prefix cache.

Small ones warm it, and show that it answers as before. The largest batch shows what it takes at most.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Any, cast

from ingle.wire.schema import Body, CompleteBody, EmbedBody
from vllm.v1.engine.exceptions import EngineDeadError

from ingled.worker.async_client import AsyncClient, Counter
from ingled.worker.core_client import CoreClient
from ingled.worker.engine import Answer, Delta, Load, Request
from ingled.worker.largest import ANSWER
from ingled.worker.pooling_client import PoolingClient
from ingled.worker.vllm_prompts import TokensBody

if TYPE_CHECKING:
    from ingled.worker.vllm_metrics import EngineMetrics

log = logging.getLogger(__name__)

HELLO = "Hello"
"""The prompt of the first token, and of those that must stay the same in sleep."""
WORDS = "The keeper lit the fire, looked at the sea 12 times, and wrote down what he saw: fog, two ships & no wind."
"""Of its tokens, again and again, are the prompts of the largest batch."""
PROBE = 32
"""Such a part of it is computed first, to see how long all of it would take."""
MOST_S = 30.0
"""A model whose largest batch would take longer is not kept from its users for that."""
LOOK_S = 0.001
"""Between two looks at whether vLLM has been given all of it."""


@dataclass
class Asked:
    """One request of our own that runs."""

    answer: Answer
    news: asyncio.Event

    async def whole(self) -> Delta:
        """Return all of it. Raises what the engine raises."""
        while (delta := self.answer.take()) is None:
            await self.news.wait()
            self.news.clear()
        return delta


class Own:
    """The requests of our own to one engine."""

    def __init__(
        self,
        engine: Any,
        client: AsyncClient | CoreClient | PoolingClient,
        counter: Counter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`client` asks the engine, an `AsyncLLM`; `counter` is told of its steps where the client is not."""
        self._engine, self._client, self._clock = engine, client, clock
        self._counting: CoreClient | Counter = client if isinstance(client, CoreClient) else counter
        self._pools = isinstance(client, PoolingClient)
        self._numbers = count(1)
        self._counted = Load()
        self._running = False
        self.metrics: EngineMetrics | None = None
        """vLLM's own counters, where they are wanted."""

    def measure(self, metrics: "EngineMetrics | None") -> None:
        """Let these count what users ask from now on."""
        self.metrics = metrics
        self._counting.metrics = None if self._running else metrics

    def without(self, load: Load) -> Load:
        """Return these counts but for the tokens of our own requests."""
        own = self._counted
        return replace(
            load,
            prompt_tokens=load.prompt_tokens - own.prompt_tokens,
            cached_tokens=load.cached_tokens - own.cached_tokens,
            completion_tokens=load.completion_tokens - own.completion_tokens,
        )

    async def small(self, tokens: int) -> Delta:
        """Return the likeliest tokens behind a short prompt, or its vector."""
        body: Body = CompleteBody(prompt=HELLO, max_tokens=tokens, temperature=0.0, ignore_eos=True)
        return (await self._unseen([EmbedBody(input=[HELLO]) if self._pools else body]))[0]

    async def largest(
        self, sizes: Sequence[int], words: Sequence[int], expect: Callable[[float], None] = lambda seconds: None
    ) -> bool:
        """Have prompts of so many tokens computed together; False: that would take too long, and was not done.

        `expect` is told how long it will take, before it begins. The tokens are these `words`, again and again. What
        comes of it cannot be told from what users' requests do: vLLM holds its scheduler still until it has been given
        all of them.
        """
        whole, part = sum(sizes), max(1, min(sum(sizes) // PROBE, *sizes))
        for _ in range(2):  # the first one pays for what is done for the first time
            began = self._clock()
            await self._unseen(self._bodies([part], words, 1))
        if (seconds := (self._clock() - began) * whole / part) > MOST_S:
            log.info("the largest batch is not tried: it would take about %.0f s", seconds)
            return False
        expect(seconds)
        try:
            await self._engine.pause_generation(mode="keep", clear_cache=False)
            await self._unseen(self._bodies(sizes, words, ANSWER), lambda asked: self._go_on(asked, len(sizes)))
        except BaseException:
            await self._resume()  # whatever it was, users' requests must not find it still
            raise
        return True

    def _bodies(self, sizes: Sequence[int], words: Sequence[int], answer: int) -> list[Body]:
        prompts = [list(islice(cycle(words), size)) for size in sizes]
        if self._pools:
            return [EmbedBody(input=cast(Any, [ids])) for ids in prompts]
        how: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "logprobs": True, "top_logprobs": 5}
        return [TokensBody(prompt=" ", ids=ids, max_tokens=answer, ignore_eos=True, **how) for ids in prompts]

    async def _go_on(self, asked: Sequence[Asked], wanted: int) -> None:
        """Let vLLM begin, once it has been given so many requests, or one of them has failed."""
        try:
            while self._client.given < wanted and not any(one.news.is_set() for one in asked):
                await asyncio.sleep(LOOK_S)
        finally:
            await self._resume()

    async def _resume(self) -> None:
        """Let vLLM's scheduler go on; if it does already, nothing happens."""
        with suppress(EngineDeadError):  # whoever waits for an answer hears of it
            await self._engine.resume_generation()

    async def _unseen(
        self, bodies: Sequence[Body], begun: Callable[[Sequence[Asked]], Awaitable[None]] | None = None
    ) -> list[Delta]:
        """Return the whole answers to these, of which no prefix is found in the cache."""
        before, self._running = self._client.load_now(), True
        self._counting.metrics = None
        asked: list[Asked] = []
        try:
            for body in bodies:
                name, news = f"own {next(self._numbers)}", asyncio.Event()
                request = Request(name, body, stream=False, salt=name)
                asked.append(Asked(self._client.run(request, news.set), news))
            if begun is not None:
                await begun(asked)
            return [await one.whole() for one in asked]
        except BaseException:
            for one in asked:
                one.answer.abort()
            raise
        finally:
            self._running = False
            self._counting.metrics = self.metrics
            self._counting.no_larger(before)
            after, own = self._client.load_now(), self._counted
            self._counted = Load(
                prompt_tokens=own.prompt_tokens + after.prompt_tokens - before.prompt_tokens,
                cached_tokens=own.cached_tokens + after.cached_tokens - before.cached_tokens,
                completion_tokens=own.completion_tokens + after.completion_tokens - before.completion_tokens,
            )
