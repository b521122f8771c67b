"""Embeddings on vLLM, through `AsyncLLM.encode`: a request is a list of texts, and each of them runs by itself."""

import asyncio
import time
from array import array
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ingle.wire.schema import EmbedBody
from vllm.pooling_params import PoolingParams

from ingled.worker import vectors
from ingled.worker.async_client import Counter
from ingled.worker.engine import Delta, End, EngineRefused, Load, LoadError, Request
from ingled.worker.generated import Generated
from ingled.worker.vllm_requests import Requests, translate

TASK = "embed"


class PoolingClient:
    """Makes vectors of texts."""

    def __init__(self, engine: Any, requests: Requests, counter: Counter) -> None:
        self._engine = engine
        self._requests = requests
        self._counter = counter
        self._running: dict[str, asyncio.Future[Delta]] = {}
        self._size = 0
        """Numbers of a vector, once there has been one."""
        self._at_once = int(engine.vllm_config.scheduler_config.max_num_seqs)

    async def start(self) -> None:
        """See that the model makes vectors of whole texts. Raises LoadError."""
        tasks = await self._engine.get_supported_tasks()
        if TASK not in tasks:
            raise LoadError(f"the model makes no embeddings: vLLM offers {', '.join(tasks)} with it")

    @property
    def given(self) -> int:
        """Return how many requests vLLM has been given that have not ended."""
        return int(self._engine.output_processor.get_num_unfinished_requests())

    def load_now(self) -> Load:
        """Return the last step's counts; texts are done in one step, so that what runs are the requests here."""
        return replace(self._counter.load_now(self._engine), running=len(self._running))

    def run(self, request: Request, news: Callable[[], None]) -> Generated:
        """Begin to make the vectors."""
        return Generated(self._deltas(request), partial(self._abort, request.id), news)

    async def _deltas(self, request: Request) -> AsyncGenerator[Delta, None]:
        work = self._running[request.id] = asyncio.ensure_future(self._whole(request))
        try:
            await asyncio.wait([work])
            yield Delta(end=End("abort", 0, 0, 0)) if work.cancelled() else work.result()
        finally:
            work.cancel()
            del self._running[request.id], work  # it has the error whose traceback has this frame

    async def _abort(self, request_id: str) -> None:
        if (work := self._running.get(request_id)) is not None:
            work.cancel()

    async def _whole(self, request: Request) -> Delta:
        body = request.body
        if not isinstance(body, EmbedBody):
            raise EngineRefused("unsupported", "this model makes vectors, not text", "ask another one", at="op")
        vectors.check_room(len(body.input), min(body.dimensions or self._size, self._size))
        began = time.monotonic()
        prompts = await self._requests.prompts.render_texts(body.input, request.salt, "body.input")
        context = self._requests.context
        for index, prompt in enumerate(prompts):
            if (tokens := len(prompt["prompt_token_ids"])) > context:
                raise vectors.text_too_long(index, tokens, context)
        # Not all at once: others have their turn between them.
        room = asyncio.Semaphore(self._at_once)
        params = PoolingParams(task=TASK, dimensions=body.dimensions)
        tasks = [asyncio.ensure_future(self._one(request, room, i, one, params)) for i, one in enumerate(prompts)]
        try:
            outputs = await asyncio.gather(*tasks)
        except Exception as error:
            raise translate(error, body) from error
        finally:
            for task in tasks:
                task.cancel()
            tasks.clear()  # one of them has the error whose traceback has this frame
        found = [array("f", one.outputs.data.float().numpy().tobytes()) for one in outputs]
        tokens = sum(len(prompt["prompt_token_ids"]) for prompt in prompts)
        if not all(found):  # the engine was stopped under it
            return Delta(end=End("abort", tokens, 0, 0))
        self._size = self._size or len(found[0])
        cached = sum(one.num_cached_tokens for one in outputs)
        took = (time.monotonic() - began) * 1000
        return Delta(end=End("stop", tokens, cached, 0, took), vectors=vectors.pack(found))

    async def _one(self, request: Request, room: asyncio.Semaphore, index: int, prompt: Any, params: Any) -> Any:
        """Return vLLM's output for one text."""
        name, last = f"{request.id}-{index}", None
        async with room:
            async for output in self._engine.encode(prompt, params.clone(), name, priority=request.priority):
                last = output
        return last
