"""Requests on vLLM through `AsyncLLM.generate`: vLLM's stable surface, and the dearer way (see `core_client`)."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerBase

from ingled.worker.ahead import Ahead
from ingled.worker.engine import Delta, End, Load, Request
from ingled.worker.generated import Generated
from ingled.worker.vllm_errors import failed
from ingled.worker.vllm_requests import Prepared, Requests, translate
from ingled.worker.vllm_values import readable

if TYPE_CHECKING:
    from ingled.worker.vllm_metrics import EngineMetrics


class Counter(StatLoggerBase):  # type: ignore[misc]
    """Adds up what AsyncLLM tells after each step of the engine; `CoreClient` counts by itself."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        self._now = Load()
        self.metrics: EngineMetrics | None = None
        """vLLM's own counters, where they are wanted."""
        self.ended: Callable[[Any], None] = lambda stats: None
        """Is called with vLLM's statistics of each request that it is done with."""

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Add one step."""
        if self.metrics is not None:
            self.metrics.record(scheduler_stats, iteration_stats)
        cached = 0
        if scheduler_stats is not None:
            cached = scheduler_stats.prefix_cache_stats.hits
            self._now = replace(
                self._now,
                running=scheduler_stats.num_running_reqs,
                crowd=max(self._now.crowd, scheduler_stats.num_running_reqs),
                waiting=scheduler_stats.num_waiting_reqs,
                kv_use=scheduler_stats.kv_cache_usage,
                cached_tokens=self._now.cached_tokens + cached,
            )
        if iteration_stats is not None:
            for one in iteration_stats.finished_requests:
                self.ended(one)
            self._now = replace(
                self._now,
                prompt_tokens=self._now.prompt_tokens + iteration_stats.num_prompt_tokens,
                completion_tokens=self._now.completion_tokens + iteration_stats.num_generation_tokens,
                batch=max(self._now.batch, iteration_stats.num_prompt_tokens - cached),
            )

    def log_engine_initialized(self) -> None:
        """Do nothing: loading is reported by the engine."""

    def no_larger(self, load: Load) -> None:
        """Have had no more requests at once, and no larger batch, than this says: what came since was not asked for."""
        self._now = replace(self._now, crowd=load.crowd, batch=load.batch)

    def load_now(self, engine: Any) -> Load:
        """Return the last step's counts; vLLM tells nothing of an abort, nor while it is idle."""
        if engine.output_processor.get_num_unfinished_requests() == 0:
            return replace(self._now, running=0, waiting=0, kv_use=0.0)
        return self._now


@dataclass(slots=True)
class Asked:
    """A request that vLLM has, or will have."""

    news: Callable[[], None]
    prompt: int = 0
    made: int = 0
    """Tokens that an earlier engine made of its answer."""
    counts: tuple[int, int] | None = None
    """Tokens of prompt and answer, once vLLM is done."""


class AsyncClient:
    """Runs requests; a task for each, woken for each of its deltas."""

    def __init__(self, engine: Any, requests: Requests, counter: Counter) -> None:
        counter.ended = self._ended
        self.ahead = Ahead(requests.prepare)
        self._engine = engine
        self._counter = counter
        self._preparing: set[str] = set()
        self._aborted: set[str] = set()
        self._asked: dict[str, Asked] = {}

    async def start(self) -> None:
        """Do nothing: AsyncLLM begins with its first request."""

    @property
    def given(self) -> int:
        """Return how many requests vLLM has been given that have not ended."""
        return int(self._engine.output_processor.get_num_unfinished_requests())

    def load_now(self) -> Load:
        """Return the last step's counts."""
        return self._counter.load_now(self._engine)

    def run(self, request: Request, news: Callable[[], None]) -> Generated:
        """Begin to answer."""
        asked = self._asked[request.id] = Asked(news)
        return Generated(self._deltas(request, asked), partial(self._abort, request.id), news, lambda: asked.counts)

    def _ended(self, stats: Any) -> None:
        """Note that vLLM is done with a request, of which what it made may not have been pulled yet."""
        asked = self._asked.get(getattr(stats, "request_id", None) or "")
        if asked is not None and asked.counts is None:
            asked.counts = (asked.prompt, asked.made + stats.num_generation_tokens)
            asked.news()

    async def _deltas(self, request: Request, asked: Asked) -> AsyncGenerator[Delta, None]:
        try:
            async with aclosing(self._prepared(request, asked)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            del self._asked[request.id]

    async def _prepared(self, request: Request, asked: Asked) -> AsyncGenerator[Delta, None]:
        self._preparing.add(request.id)
        try:
            prepared = await self.ahead.prepare(request)
            if request.id in self._aborted:
                yield Delta(end=End("abort", prepared.tokens, 0, 0))
                return
        finally:
            self._preparing.discard(request.id)
            self._aborted.discard(request.id)
        if prepared.over is not None:
            yield prepared.over
            return
        asked.prompt, asked.made = prepared.tokens, 0 if prepared.text is None else prepared.text.count
        async with aclosing(self._generate(request, prepared)) as deltas:
            async for delta in deltas:
                if prepared.text is not None:
                    _put_text(prepared, prepared.text, delta)
                yield delta
                if delta.end is not None:
                    return

    async def _generate(self, request: Request, prepared: Prepared) -> AsyncGenerator[Delta, None]:
        """Generate, and tell vLLM's outputs as ours."""
        how = {"lora_request": prepared.lora, "priority": request.priority}
        outputs = self._engine.generate(prepared.prompt, prepared.params, request.id, **how)
        cached = made = 0
        try:
            async for output in outputs:
                answer = output.outputs[0]
                made += len(answer.token_ids)
                cached = output.num_cached_tokens or cached
                delta = Delta(answer.text, list(answer.token_ids))
                if request.logprobs is not None and answer.logprobs:
                    delta.logprobs = readable(answer.logprobs, delta.tokens, request.logprobs)
                if output.finished:
                    if answer.finish_reason == "error":
                        raise failed("EngineCore ended the answer with an error")
                    stop = answer.stop_reason if isinstance(answer.stop_reason, str) else None
                    first = output.metrics.first_token_latency * 1000 if output.metrics else 0.0
                    finish = answer.finish_reason or "stop"
                    delta.end = End(finish, prepared.tokens, cached, made, first, stop)
                yield delta
        except Exception as error:
            raise translate(error, request.body) from error
        finally:
            await outputs.aclose()

    async def _abort(self, request_id: str) -> None:
        """End the request in EngineCore; one that is still rendered ends before it gets there."""
        if request_id in self._preparing:
            self._aborted.add(request_id)
        try:
            await self._engine.abort(request_id)
        except EngineDeadError:
            return  # the request's own task says so


def _put_text(prepared: Prepared, text_of: Any, delta: Delta) -> None:
    """Give a delta of an answer that goes on its text, made of all tokens, and its end the counts of the whole."""
    end = delta.end
    at_stop = end is not None and end.finish == "stop"
    delta.text = text_of.text(delta.tokens, finished=end is not None, stop_terminated=at_stop)
    if text_of.stop is not None:
        end = End("stop", prepared.tokens, 0, 0, 0.0, text_of.stop)
    if end is not None:
        delta.end = replace(end, cached=min(end.cached, prepared.tokens), completion=text_of.count)
