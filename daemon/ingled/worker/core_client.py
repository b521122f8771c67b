"""Requests on vLLM through the client of its engine core: one message of the core is one turn here, for all answers.

`AsyncLLM.generate` makes of each output of each step several objects and statistics, and wakes a task for it. This
takes the core's outputs as they come; the text is made by the same detokenizer of vLLM's. It is vLLM's inner surface,
which changes more often: `obstacle` says whether this vLLM has it as it is used here (`vllm_names.CORE_USES`), and
`async_client` does the same without it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.logprobs import LogprobsProcessor

from ingled.worker import core_socket
from ingled.worker.ahead import Ahead
from ingled.worker.core_answer import CoreAnswer, plain
from ingled.worker.engine import EngineDead, Load, Request
from ingled.worker.vllm_names import CORE_USES, absent
from ingled.worker.vllm_requests import Prepared, Requests

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


BEGIN_S = 0.001
"""Seconds for which requests are prepared before streams have a turn."""


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
        self._beginning: deque[tuple[CoreAnswer, Request]] = deque()
        self._begins = False
        """Somebody begins with them."""
        self._running: dict[str, CoreAnswer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dead: EngineDead | None = None
        self._stats: Any = None
        self.metrics: EngineMetrics | None = None
        """vLLM's own counters, where they are wanted."""
        self._prompt_tokens = self._cached_tokens = self._completion_tokens = 0
        self._crowd = self._batch = 0

    async def start(self) -> None:
        """Begin to read what the core says."""
        self._spawn(self._read())
        self._supported = await self._engine.get_supported_tasks()

    def run(self, request: Request, news: Callable[[], None]) -> CoreAnswer:
        """Begin to answer."""
        answer = CoreAnswer(self.drop, request, news)
        self._beginning.append((answer, request))
        if not self._begins:
            self._begins = True
            self._spawn(self._begin_all())
        return answer

    def drop(self, answer: CoreAnswer) -> None:
        """Take no more outputs of an answer, and have the core make none."""
        id, answer.id = answer.id, None
        if id is None or self._running.pop(id, None) is None:
            return
        if self.metrics is not None:
            self.metrics.forget(id)
        self._spawn(self._stop([id]))

    @property
    def given(self) -> int:
        """Return how many requests vLLM has been given that have not ended."""
        return len(self._running)

    def no_larger(self, load: Load) -> None:
        """Have had no more requests at once, and no larger batch, than this says: what came since was not asked for."""
        self._crowd, self._batch = load.crowd, load.batch

    def load_now(self) -> Load:
        """Return the last step's counts; the core tells nothing of an abort, nor while it is idle."""
        totals = (self._prompt_tokens, self._cached_tokens, self._completion_tokens, self._crowd, self._batch)
        stats = self._stats
        if stats is None or not self._running:
            return Load(0, 0, 0.0, *totals)
        return Load(stats.num_running_reqs, stats.num_waiting_reqs, stats.kv_cache_usage, *totals)

    async def _prepare(self, request: Request) -> Ready:
        return self._prepare_now(request) or self._ready(request, await self._requests.prepare(request))

    def _prepare_now(self, request: Request) -> Ready | None:
        """Return a short request as the core takes it."""
        prepared = self._requests.prepare_now(request)
        return None if prepared is None else self._ready(request, prepared)

    def _ready(self, request: Request, prepared: Prepared) -> Ready:
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

    async def _begin_all(self) -> None:
        """Begin what has come, one after the other: the core has the first while the second is prepared.

        To give it some at a time saves no CPU that shows (docs/performance.md).
        """
        until = time.monotonic() + BEGIN_S
        while self._beginning:
            answer, request = self._beginning.popleft()
            try:
                ready = self._prepared(request)
                if ready is None:
                    self._spawn(self._begin_later(answer, request))
                else:
                    await self._begin(answer, request, ready)
            except Exception as error:
                self._fail(answer, error)
            if time.monotonic() > until:
                await asyncio.sleep(0)  # streams go on meanwhile
                until = time.monotonic() + BEGIN_S
        self._begins = False

    def _prepared(self, request: Request) -> Ready | None:
        """Return a request as the core takes it, where that has been made ahead, or costs little. None: it is made."""
        ready = self.ahead.take(request.id)
        if ready is None and not self.ahead.has_begun(request.id):
            self.ahead.forget(request.id)
            ready = self._prepare_now(request)
        return ready

    async def _begin_later(self, answer: CoreAnswer, request: Request) -> None:
        try:
            await self._begin(answer, request, await self.ahead.prepare(request))
        except Exception as error:
            self._fail(answer, error)

    async def _begin(self, answer: CoreAnswer, request: Request, ready: Ready) -> None:
        """Give a request to the core, if it is still wanted there."""
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

    def _fail(self, answer: CoreAnswer, error: Exception) -> None:
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
        computed = 0
        for output in outputs.outputs:
            answer = running.get(output.request_id)
            if answer is None:
                continue  # it was aborted
            if output.prefill_stats is not None:
                self._prompt_tokens += output.prefill_stats.num_prompt_tokens
                computed += output.prefill_stats.num_computed_tokens
            self._completion_tokens += len(output.new_token_ids)
            try:
                if answer.add(output):
                    stopped.append(output.request_id)
            except Exception as error:
                self._fail(answer, error)
                continue
            if answer.over:
                del running[output.request_id]
                answer.id = None
            news[answer] = None
        if (stats := outputs.scheduler_stats) is not None:
            self._stats = stats
            self._crowd = max(self._crowd, stats.num_running_reqs)
            self._cached_tokens += stats.prefix_cache_stats.hits
        self._batch = max(self._batch, computed)
        if self.metrics is not None:
            self.metrics.step(outputs, stopped)
        return stopped

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
