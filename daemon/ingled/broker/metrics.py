"""What can be measured of the daemon, for Prometheus; imported only where it is asked for.

Names of requests and tokens follow OpenTelemetry's semantic conventions for generative AI, as Prometheus writes them
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/); the rest begins with `ingle_`. There is no label
for accounts, prompts or ids: who may read this learns how much there is to do, and nothing of whom. What an engine
counts by itself (`vllm:…`) is asked of the workers, and passed on under its own names with the model as a label.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ingle.wire.schema import Done, Failed
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingled.broker.described import weights_bytes
from ingled.core.requests import Record, Stage
from ingled.core.residency import State
from ingled.link import Family

if TYPE_CHECKING:
    from ingled.broker.shell import Shell

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Seconds. The first and the last come from the conventions, the middle one begins earlier: models are local here."""

ENGINES_S = 1.0
"""Seconds that workers have to tell what their engines have counted; who is late is left out this once."""


class Metrics:
    """Counts what ends, and reads the rest from the shell when somebody asks."""

    def __init__(self, shell: "Shell") -> None:
        self.registry = CollectorRegistry()
        labels = ("gen_ai_operation_name", "gen_ai_request_model")
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the arrival of a request to its end",
            (*labels, "error_type"),
            buckets=DURATIONS,
            registry=self.registry,
        )
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the arrival of a request to its first token, loads and waits included",
            labels,
            buckets=FIRST,
            registry=self.registry,
        )
        self._per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Between two tokens of an answer, on its average",
            labels,
            buckets=PER_TOKEN,
            registry=self.registry,
        )
        self._tokens = Counter(
            "ingle_tokens", "Tokens of requests that ended well", ("model", "type"), registry=self.registry
        )
        self._changes = Counter(
            "ingle_model_transitions", "Changes of a model's state", ("model", "state"), registry=self.registry
        )
        self._resumed = Counter(
            "ingle_requests_resumed", "Requests that went on after the death of a worker", registry=self.registry
        )
        self._workers = shell.workers
        self.registry.register(Snapshot(shell))
        ProcessCollector(namespace="ingle_broker", registry=self.registry)

    def ended(self, record: Record, end: Done | Failed, now: float) -> None:
        """A request has ended for the engine."""
        labels = (record.op, record.model)
        error = end.code if isinstance(end, Failed) else ""
        self._duration.labels(*labels, error).observe(now - record.arrived)
        self._resumed.inc(record.resumed)
        if isinstance(end, Failed):
            return
        ms, usage = end.ms, end.usage
        self._tokens.labels(record.model, "input").inc(usage.prompt)
        self._tokens.labels(record.model, "input_cached").inc(usage.cached)
        self._tokens.labels(record.model, "output").inc(usage.completion)
        before = (ms.queued + ms.load + ms.first) / 1000
        self._first.labels(*labels).observe(before)
        if usage.completion > 1:
            self._per_token.labels(*labels).observe(max(0.0, ms.total / 1000 - before) / (usage.completion - 1))

    def model_changed(self, model: str, state: str) -> None:
        """A model is in another state."""
        self._changes.labels(model, state).inc()

    async def text(self) -> bytes:
        """Return all of it in Prometheus' text format, what the engines have counted at its end."""
        told = await self._workers.measured(ENGINES_S)
        engines = CollectorRegistry()
        engines.register(Engines(told))
        return bytes(generate_latest(self.registry) + generate_latest(engines))


class Engines(Collector):
    """What engines have counted, each metric with its models under one heading."""

    def __init__(self, told: Mapping[str, Sequence[Family]]) -> None:
        """`told` is by model."""
        self._told = told

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are the engines' own."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return all of it, with the model as a label."""
        found: dict[str, Metric] = {}
        for model, families in self._told.items():
            for one in families:
                metric = found.setdefault(one.name, Metric(one.name, one.help, one.kind))
                for name, labels, value in one.samples:
                    metric.add_sample(name, {**labels, "model": model}, value)
        return iter(found.values())


class Snapshot(Collector):
    """What is known at the moment of asking."""

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are known when they are collected."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return all gauges, and the counts that the daemon keeps anyway."""
        yield from self._daemon()
        yield from self._models()
        yield from self._hooks()

    def _daemon(self) -> Iterator[Metric]:
        shell, front, requests = self._shell, self._shell.front, self._shell.control.requests
        open_now = GaugeMetricFamily("ingle_requests", "Requests by what they do now", labels=["state"])
        for stage in Stage:
            open_now.add_metric([stage.value], requests.stages[stage])
        yield open_now
        over = CounterMetricFamily("ingle_requests_ended", "Requests by how they ended", labels=["outcome"])
        over.add_metric(["done"], requests.done_total)
        over.add_metric(["failed"], requests.failed_total)
        yield over
        yield GaugeMetricFamily("ingle_connections", "Clients that are connected", value=len(front.connections))
        dropped = CounterMetricFamily("ingle_dropped", "What was dropped or held back unread", labels=["reason"])
        routers = (front.router, shell.workers.router)
        for reason, count in (
            ("unreadable", front.unreadable),
            ("no_identity", sum(router.no_identity for router in routers)),
            ("clogged", front.router.clogged),
            ("held_back", sum(router.held_back for router in routers)),
        ):
            dropped.add_metric([reason], count)
        yield dropped

    def _models(self) -> Iterator[Metric]:
        shell = self._shell
        state = GaugeMetricFamily("ingle_model_state", "1 for the state that a model is in", labels=["model", "state"])
        memory = GaugeMetricFamily(
            "ingle_model_memory_bytes", "Memory of a model: the parts that are known", labels=["model", "part"]
        )
        kv = GaugeMetricFamily("ingle_model_kv_cache_usage_ratio", "KV cache in use, 0 to 1", labels=["model"])
        work = GaugeMetricFamily(
            "ingle_model_requests",
            "Requests that run and wait inside the engine, and before it",
            labels=["model", "at"],
        )
        prefix = CounterMetricFamily(
            "ingle_model_prompt_tokens",
            "Prompt tokens since the start of the worker; `hit`: found in the prefix cache",
            labels=["model", "prefix_cache"],
        )
        load = GaugeMetricFamily("ingle_model_load_seconds", "What the last load took", labels=["model"])
        for model in shell.control.models.values():
            name, worker = model.name, shell.workers.of(model.name)
            for one in State:
                state.add_metric([name, one.value], float(model.state is one))
            work.add_metric([name, "queued"], len(shell.control.requests.turns[name].waiting))
            info, stats = (worker.info, worker.stats) if worker else (None, None)
            if info is not None:
                load.add_metric([name], info.load_s)
                for part, size in (("weights", weights_bytes(shell, name, info)), ("kv_cache", info.kv_bytes)):
                    if size is not None:
                        memory.add_metric([name, part], size)
            if stats is not None:
                memory.add_metric([name, "resident"], stats.rss_bytes)
                kv.add_metric([name], stats.kv_use)
                work.add_metric([name, "running"], stats.running)
                work.add_metric([name, "waiting"], stats.waiting)
                prefix.add_metric([name, "hit"], stats.cached_tokens)
                prefix.add_metric([name, "miss"], stats.prompt_tokens - stats.cached_tokens)
        yield from (state, memory, kv, work, prefix, load)

    def _hooks(self) -> Iterator[Metric]:
        labels = ["hook", "provider"]
        calls = CounterMetricFamily("ingle_hook_calls", "Calls of a hook", labels=labels)
        failures = CounterMetricFamily("ingle_hook_failures", "Calls at which a hook failed", labels=labels)
        times = GaugeMetricFamily(
            "ingle_hook_call_seconds", "Quantiles of a hook's last calls", labels=[*labels, "quantile"]
        )
        now = self._shell.loop.time()
        for entry in self._shell.control.pipeline.registry.entries.values():
            if entry.account is not None:
                continue  # what clients offer is theirs
            told = entry.describe(now, whole=False)
            values = [entry.name, "plugin"]
            calls.add_metric(values, told["calls"])
            failures.add_metric(values, told["failures"])
            for quantile, key in (("0.5", "p50_us"), ("0.99", "p99_us")):
                if told[key] is not None:
                    times.add_metric([*values, quantile], told[key] / 1e6)
        yield from (calls, failures, times)
