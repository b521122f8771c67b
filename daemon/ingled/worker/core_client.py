"""Requests on vLLM through the client of its engine core: one message of the core is one turn here, for all answers.

`AsyncLLM.generate` makes of each output of each step several objects and statistics, and wakes a task for it. This
takes the core's outputs as they come; the text is made by the same detokenizer of vLLM's. It is vLLM's inner surface,
which changes more often: `obstacle` says whether this vLLM has it as it is used here (`vllm_names.CORE_USES`), and
`async_client` does the same without it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tokenizers.decoders import DecodeStream
from vllm.v1.engine import FinishReason
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer, IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.logprobs import LogprobsProcessor

from ingled.worker import core_socket
from ingled.worker.ahead import Ahead
from ingled.worker.engine import Delta, End, EngineDead, Load, Request
from ingled.worker.plain_text import PlainText
from ingled.worker.vllm_errors import failed
from ingled.worker.vllm_names import CORE_USES, absent
from ingled.worker.vllm_requests import Prepared, Requests, translate
from ingled.worker.vllm_values import readable

if TYPE_CHECKING:
    from ingled.worker.vllm_metrics import EngineMetrics

log = logging.getLogger(__name__)

COUNTED_BY_ASYNC_LLM = ("max_num_queued_reqs", "max_num_queued_tokens")
"""Limits on what has passed through `AsyncLLM`, which keeps them itself."""


def obstacle(engine: Any) -> str | None:
    """Return why requests cannot go to the core of this `AsyncLLM` directly, or None."""
    if lacking := absent(CORE_USES) or [
        f"AsyncLLM.{name}" for name in ("engine_core", "input_processor", "output_handler") if not hasattr(engine, name)
    ]:
        return f"this vLLM has not {', '.join(lacking)}"
    if engine.output_handler is not None:
        return "AsyncLLM reads the core's outputs already"
    scheduler = engine.vllm_config.scheduler_config
    if scheduler.stream_interval > 1:
        return "stream_interval is AsyncLLM's"
    if limits := [name for name in COUNTED_BY_ASYNC_LLM if getattr(scheduler, name, None) is not None]:
        return f"{limits[0]} is AsyncLLM's"
    return None


def plain(text: Any) -> Any:
    """Return a cheaper detokenizer that makes the same text, where there is one."""
    try:
        if type(text) is not FastIncrementalDetokenizer or text.stop or text.include_stop_str_in_output:
            return text
        if not text.spaces_between_special_tokens:
            return text
        fresh = partial(DecodeStream, skip_special_tokens=text.skip_special_tokens)
        return PlainText(text.tokenizer, text.stream, fresh)
    except AttributeError:  # another vLLM
        return text


class CoreAnswer:
    """One request: what the core makes of it collects here until it is taken."""

    __slots__ = (
        "_aborted",
        "_arrival",
        "_cached",
        "_client",
        "_count",
        "_error",
        "_finish",
        "_first_ms",
        "_logprobs",
        "_prompt",
        "_ready",
        "_request",
        "_stop",
        "_text",
        "_tokens",
        "id",
        "news",
    )

    def __init__(self, client: "CoreClient", request: Request, news: Callable[[], None]) -> None:
        self.news = news
        self.id: str | None = None
        """The core's name of the request, while it runs there."""
        self._client = client
        self._request = request
        self._aborted = False
        self._arrival = time.monotonic()  # vLLM's own is of the wall clock, which may jump
        self._prompt = self._cached = self._count = 0
        self._first_ms = 0.0
        self._text: Any = None
        self._logprobs: Any = None
        self._tokens: list[int] = []
        self._finish: str | None = None
        self._stop: str | None = None
        self._ready: Delta | None = None
        self._error: Exception | None = None

    # ------------------------------------------------------------ what the worker asks

    def take(self) -> Delta | None:
        """Return what has come since the last call; the text of it is made here, once for all its tokens."""
        finish, tokens = self._finish, self._tokens
        if finish is None and (not tokens or not self._request.stream):
            if self._error is not None:
                raise self._error
            return self._ready
        if self._error is not None:
            raise self._error
        self._tokens = []
        delta = Delta(self._text.get_next_output_text(finish is not None, True), tokens)
        if self._logprobs is not None and tokens:
            positions = self._logprobs.logprobs[-len(tokens) :]
            delta.logprobs = readable(positions, tokens, self._request.logprobs or 0)
        if finish is not None:
            delta.end = End(finish, self._prompt, self._cached, self._count, self._first_ms, self._stop)
        return delta

    def abort(self) -> None:
        """End it here and in the core; one that is still rendered ends before it gets there."""
        self._aborted = True
        if self.id is not None:
            self._client.drop(self)
            self._finish = "abort"
            self.news()

    def close(self) -> None:
        """Take no more of it."""
        if self.id is not None:
            self._client.drop(self, tell=False)

    # ------------------------------------------------------------ what its client tells

    def begin(self, prepared: Prepared, request: Any, text: Any, logprobs: Any) -> bool:
        """The request is ready for the core; returns whether it is still wanted there."""
        self._prompt = prepared.tokens
        self._text = prepared.text or text
        self._count = 0 if prepared.text is None else prepared.text.count
        self._logprobs = logprobs
        if self._aborted:
            self.ready(Delta(end=End("abort", prepared.tokens, 0, 0)))
            return False
        self.id = request.request_id
        return True

    def add(self, output: Any) -> bool:
        """Take an output of the core; returns whether the core has still to learn that this was the last."""
        if output.prefill_stats is not None and not self._first_ms:
            self._first_ms = (time.monotonic() - self._arrival) * 1000
            self._cached = min(output.prefill_stats.num_cached_tokens, self._prompt)
        tokens = output.new_token_ids
        reason = output.finish_reason
        stop = self._text.update(tokens, reason == FinishReason.STOP)
        if output.new_logprobs is not None and self._logprobs is not None:
            if stop is not None and (kept := self._text.num_output_tokens() - self._count) < len(tokens):
                output.new_logprobs = output.new_logprobs.slice_request(0, kept)
            self._logprobs.update_from_output(output)
        if stop is not None:  # what the engine made behind it is not part of the answer
            tokens = tokens[: self._text.num_output_tokens() - self._count]
            self._finish, self._stop = "stop", stop
        elif reason is not None:
            self._finish = str(reason)
            if reason == FinishReason.ERROR:
                self._error = failed("EngineCore ended the answer with an error")
        self._count += len(tokens)
        self._tokens = self._tokens + tokens if self._tokens else tokens
        return stop is not None and reason is None

    @property
    def counts(self) -> tuple[int, int] | None:
        """Return the tokens of prompt and answer once the core is done with it."""
        return (self._prompt, self._count) if self.over else None

    @property
    def over(self) -> bool:
        """Nothing more comes from the core."""
        return self._finish is not None or self._error is not None

    def ready(self, delta: Delta) -> None:
        """Let this be the answer; the core is not asked."""
        self._ready = delta
        self.news()

    def fail(self, error: Exception) -> None:
        """Let the next `take` raise."""
        self._error = translate(error, self._request.body)
        self.news()


@dataclass(slots=True)
class Ready:
    """A request as the core takes it, and what makes the text of its answer."""

    prepared: Prepared
    request: Any = None
    """vLLM's `EngineCoreRequest`."""
    text: Any = None
    logprobs: Any = None

    @property
    def tokens(self) -> int:
        """Return the tokens of its prompt."""
        return self.prepared.tokens


class CoreClient:
    """Runs requests; one task reads for all of them."""

    def __init__(self, engine: Any, requests: Requests) -> None:
        self.ahead = Ahead(self._prepare)
        self._engine = engine
        self._core = engine.engine_core
        self._inputs = engine.input_processor
        self._tokenizer = engine.renderer.tokenizer
        self._requests = requests
        self._supported: Any = None
        self._running: dict[str, CoreAnswer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dead: EngineDead | None = None
        self._stats: Any = None
        self.metrics: EngineMetrics | None = None
        """vLLM's own counters, where they are wanted."""
        self._prompt_tokens = self._cached_tokens = self._completion_tokens = 0

    async def start(self) -> None:
        """Begin to read what the core says."""
        self._spawn(self._read())
        self._supported = await self._engine.get_supported_tasks()

    def run(self, request: Request, news: Callable[[], None]) -> CoreAnswer:
        """Begin to answer."""
        answer = CoreAnswer(self, request, news)
        self._spawn(self._begin(answer, request))
        return answer

    def drop(self, answer: CoreAnswer, tell: bool = True) -> None:
        """Take no more outputs of an answer; `tell`: the core is to stop making them."""
        id, answer.id = answer.id, None
        if id is None or self._running.pop(id, None) is None:
            return
        if self.metrics is not None:
            self.metrics.forget(id)
        if tell:
            self._spawn(self._stop([id]))

    def load_now(self) -> Load:
        """Return the last step's counts; the core tells nothing of an abort, nor while it is idle."""
        totals = (self._prompt_tokens, self._cached_tokens, self._completion_tokens)
        stats = self._stats
        if stats is None or not self._running:
            return Load(0, 0, 0.0, *totals)
        return Load(stats.num_running_reqs, stats.num_waiting_reqs, stats.kv_cache_usage, *totals)

    async def _prepare(self, request: Request) -> Ready:
        prepared = await self._requests.prepare(request)
        if prepared.over is not None:
            return Ready(prepared)
        lora = self._requests.lora_of(request)
        one = self._inputs.process_inputs(
            request.id, prepared.prompt, prepared.params, self._supported, lora_request=lora
        )
        self._inputs.assign_request_id(one)
        text = plain(IncrementalDetokenizer.from_new_request(self._tokenizer, one))
        wanted = request.logprobs is not None
        logprobs = LogprobsProcessor.from_new_request(self._tokenizer, one) if wanted else None
        return Ready(prepared, one, text, logprobs)

    async def _begin(self, answer: CoreAnswer, request: Request) -> None:
        try:
            ready = await self.ahead.prepare(request)
            prepared, one = ready.prepared, ready.request
            if prepared.over is not None:
                answer.ready(prepared.over)
                return
            if self._dead is not None:
                raise self._dead
            one.priority, one.arrival_time = request.priority, time.time()  # it may have been made ready long ago
            one.lora_request = self._requests.lora_of(request)
            if answer.begin(prepared, one, ready.text, ready.logprobs):
                self._running[one.request_id] = answer
                if self.metrics is not None:
                    self.metrics.began(one)
                await self._core.add_request_async(one)
        except Exception as error:
            self.drop(answer)
            answer.fail(error)

    async def _stop(self, ids: list[str]) -> None:
        try:
            await self._core.abort_requests_async(ids)
        except EngineDeadError:
            return  # whoever reads says so

    async def _read(self) -> None:
        try:
            if core_socket.readable(self._core):
                await core_socket.read(self._core, self._take)
            while True:
                self._take([await self._core.get_output_async()])
        except EngineDeadError:
            self._dead = EngineDead("EngineCore has died")
        except Exception as error:
            log.exception("the outputs of EngineCore cannot be read")
            self._dead = EngineDead(f"the outputs of EngineCore cannot be read: {type(error).__name__}: {error}")
        running, self._running = self._running, {}
        for answer in running.values():
            answer.id = None
            answer.fail(self._dead)

    def _take(self, steps: list[Any]) -> None:
        """Hand the outputs of steps to their answers; what more than one has for an answer is one piece of news."""
        news: dict[CoreAnswer, None] = {}
        stopped: list[str] = []
        for outputs in steps:
            stopped += self._step(outputs, news)
        for answer in news:
            answer.news()
        if stopped:
            self._spawn(self._stop(stopped))

    def _step(self, outputs: Any, news: dict[CoreAnswer, None]) -> list[str]:
        """Hand the outputs of one step to their answers; returns those that the core has to stop."""
        running = self._running
        stopped: list[str] = []
        for output in outputs.outputs:
            answer = running.get(output.request_id)
            if answer is None:
                continue  # it was aborted
            if output.prefill_stats is not None:
                self._prompt_tokens += output.prefill_stats.num_prompt_tokens
            self._completion_tokens += len(output.new_token_ids)
            try:
                if answer.add(output):
                    stopped.append(output.request_id)
            except Exception as error:
                self.drop(answer)
                answer.fail(error)
                continue
            if answer.over:
                del running[output.request_id]
                answer.id = None
            news[answer] = None
        if (stats := outputs.scheduler_stats) is not None:
            self._stats = stats
            self._cached_tokens += stats.prefix_cache_stats.hits
        if self.metrics is not None:
            self.metrics.step(outputs, stopped)
        return stopped

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
