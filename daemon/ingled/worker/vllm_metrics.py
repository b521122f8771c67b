"""What vLLM tells Prometheus of its engine, kept by vLLM's own logger under vLLM's own names.

`AsyncLLM` makes statistics of each step by itself; where the engine core is read directly, they are made here of the
same outputs, by the same classes of vLLM's. `obstacle` says whether this vLLM has them as they are used here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY
from vllm.v1.engine import FinishReason
from vllm.v1.engine.output_processor import LoRARequestStates
from vllm.v1.engine.parallel_sampling import ParentRequest
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import IterationStats, RequestStateStats, SchedulerStats

from ingled.link import Family

PREFIX = "vllm:"


@dataclass(slots=True)
class Counted:
    """A request that runs."""

    stats: Any
    prompt: int
    most: int | None
    cached: int = 0
    begun: bool = False
    """Its first token has been made."""


class EngineMetrics:
    """The counters of one engine."""

    def __init__(self, config: Any) -> None:
        """`config` is the engine's `VllmConfig`. Raises what vLLM raises where it has changed."""
        self._logger = PrometheusStatLogger(config, [0])
        self._loras = LoRARequestStates(log_stats=False)
        self._running: dict[str, Counted] = {}

    def record(self, scheduler: Any, iteration: Any) -> None:
        """Add one step of the engine."""
        self._logger.record(scheduler, iteration)

    def began(self, request: Any) -> None:
        """The core is given a request."""
        stats = RequestStateStats(arrival_time=request.arrival_time)
        self._running[request.request_id] = Counted(
            stats, len(request.prompt_token_ids or ()), getattr(request.sampling_params, "max_tokens", None)
        )

    def forget(self, id: str) -> None:
        """A request is aborted: like AsyncLLM, this does not count its end."""
        self._running.pop(id, None)

    def step(self, outputs: Any, stopped: Iterable[str]) -> None:
        """Count the outputs of one step, of which these requests have ended at a stop string."""
        step = IterationStats()
        ends = dict.fromkeys(stopped, FinishReason.STOP)
        for output in outputs.outputs:
            one = self._running.get(output.request_id)
            if one is None:
                continue
            step.update_from_output(output, outputs.timestamp, not one.begun, one.stats, self._loras, None)
            if not one.begun and output.prefill_stats is not None:
                one.cached = output.prefill_stats.num_cached_tokens
            one.begun = True
            reason = ends.get(output.request_id, output.finish_reason)
            if reason is not None:
                del self._running[output.request_id]
                step.update_from_finished_request(
                    finish_reason=reason,
                    request_id=output.request_id,
                    num_prompt_tokens=one.prompt,
                    max_tokens_param=one.most,
                    req_stats=one.stats,
                    num_cached_tokens=one.cached,
                )
                ParentRequest.observe_finished_request(None, step, one.stats.num_generation_tokens)
        self._logger.record(outputs.scheduler_stats, step if outputs.outputs else None)

    def families(self, *, idle: bool) -> list[Family]:
        """Return all of it; `idle`: nothing runs, which the core does not say by itself."""
        if idle:
            self._logger.record(SchedulerStats(), None)
        return [
            Family(
                family.name,
                family.type,
                family.documentation,
                [(one.name, dict(one.labels), float(one.value)) for one in family.samples],
            )
            for family in REGISTRY.collect()
            if family.name.startswith(PREFIX)
        ]
