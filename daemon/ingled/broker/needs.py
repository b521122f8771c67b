"""What models need: asked of the engine, read from headers, learned from every load."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path

from ingle.bytesize import spell

from ingled import link
from ingled.broker import ledger
from ingled.broker.asking import Asking, Tell
from ingled.broker.devices import Devices
from ingled.broker.ledger import Ledger
from ingled.broker.link_front import LinkFront
from ingled.broker.worker import Worker
from ingled.config import Config
from ingled.core import events as on
from ingled.core.ladder import Sleep
from ingled.core.need import SHORT, Measured, Need, Parts, known
from ingled.core.residency import Model
from ingled.journal import about
from ingled.models import folder
from ingled.models.folder import Folder
from ingled.models.tensors import Unreadable

log = logging.getLogger(__name__)

ANSWERS = 4
"""Answers of full length for which there is room in the KV cache, where nothing is said; the engine's default."""
LEAST_CACHE = 256 << 20
"""And the least size of such a cache."""
WIDE = ("float32", "float")

Planned = Callable[[Need, link.Planned], None]


class Needs:
    """Knows of every model what it takes, and tells the core."""

    def __init__(
        self,
        config: Config,
        specs: Mapping[str, link.Spec],
        loop: asyncio.AbstractEventLoop,
        workers: LinkFront,
        devices: Devices,
        models: Mapping[str, Model],
        dispatch: Callable[[on.Event], None],
    ) -> None:
        self._config, self._specs, self._loop, self._workers = config, specs, loop, workers
        self._devices, self._models, self._dispatch = devices, models, dispatch
        self.ledger = Ledger(config.state, loop)
        self.problems: dict[str, str] = {}
        """Models whose options the engine refuses, or whose weights cannot be read, and why."""
        self._folders: dict[str, Folder] = {}
        self._estimates: dict[str, link.Estimate] = {}
        self._unread = True
        self._told: dict[str, tuple[int, float | None]] = {}
        self.asking = Asking(loop, workers.nursery)
        workers.nursery.on_ready = self._nursery_ready
        workers.on_ready = self._ready
        workers.on_stats = self._stats
        workers.on_asleep = self._asleep
        workers.on_sleep_failed = self._sleep_failed
        workers.ends.on_short = self._short
        workers.to_fill = self._to_fill
        devices.ask = self._ask_gpus

    def start(self) -> None:
        """Begin to read headers, in a thread."""
        self._read_headers(self._specs)

    def reconfigure(self, config: Config, changed: Iterable[str]) -> None:
        """Go by another configuration, in which these models are new or others than before."""
        self._config = config
        names = list(changed)
        for name in names:
            self.forget(name)
        if names:
            self._read_headers(names)
        self._plan_all(names)

    def forget(self, name: str) -> None:
        """Nothing is known of this model any more."""
        self.problems.pop(name, None)
        self._folders.pop(name, None)
        self._estimates.pop(name, None)
        self._told.pop(name, None)

    def _read_headers(self, names: Iterable[str]) -> None:
        specs = {name: self._specs[name] for name in names}
        sources = {name: Path(spec.source) for name, spec in specs.items() if spec.engine == "vllm"}
        self._loop.run_in_executor(None, _read_all, sources).add_done_callback(partial(self._read, specs))

    def _read(self, specs: Mapping[str, link.Spec], done: "asyncio.Future[dict[str, Folder | str]]") -> None:
        self._unread = False
        there = [name for name, spec in specs.items() if self._specs.get(name) is spec]  # not changed meanwhile
        for name, found in done.result().items():
            if name not in there:
                continue
            if isinstance(found, str):
                log.warning("model '%s': %s", name, found)
                self.problems.setdefault(name, found)
            else:
                self._folders[name] = found
        for name in there:
            if (worker := self._workers.of(name)) is not None:
                self._ready(worker, None)
            self._tell(name)

    # ------------------------------------------------------------ what models need

    def need(self, name: str) -> Need:
        """Return what a model takes, by what is known best."""
        configured = self._config.terms(name).need if name in self._config.models else 0
        return known(self._planned(name, self._specs[name]), self.measured(name, self._specs[name]), configured)

    def load_s(self, name: str, spec: link.Spec | None = None) -> float | None:
        """Return how long the last load took; None when there was none."""
        entry = self.ledger.entries.get(self._key(name, spec or self._specs[name]))
        return entry.load_s if entry and entry.loads else None

    def measured(self, name: str, spec: link.Spec) -> Measured | None:
        """Return what an earlier load took."""
        entry = self.ledger.entries.get(self._key(name, spec))
        return Measured(entry.taken, entry.kv_cache, entry.most, entry.full, entry.short) if entry else None

    def ran_out(self, name: str, spec: link.Spec) -> str | None:
        """Return that a model ran out of memory, if that is why it is taken to need more; for people."""
        entry = self.ledger.entries.get(self._key(name, spec))
        if entry is None or not entry.short:
            return None
        more = f"{SHORT - 1:.0%} more"
        return f"it ran out of memory with {spell(entry.short)}: until its largest batch has run it is given {more}"

    @cached_property
    def _engine(self) -> str:
        return ledger.engine(self._config.engine)

    def _key(self, name: str, spec: link.Spec) -> str:
        found = self._folders.get(name)
        digest = found.digest if found else spec.source
        options = {**spec.options, "concurrency": spec.concurrency}
        profile = self._config.models.get(name)
        revision = None if profile is None else profile.revision
        return ledger.key(digest, revision, options, self._devices.kind, self._engine, spec.adapters.values())

    def _planned(self, name: str, spec: link.Spec, estimate: link.Estimate | None = None) -> Need:
        """Return what the engine says that a model takes; until it has, the least that its headers tell."""
        found = self._folders.get(name)
        quantized = bool(found and found.architecture.quantized) or spec.options.get("quantization") is not None
        sized = spec.options.get("kv_cache_memory_bytes")
        least = sized or (LEAST_CACHE if spec.concurrency is None else 0)
        if estimate is None and spec is self._specs[name]:
            estimate = self._estimates.get(name)
        if estimate is not None:
            e = estimate
            parts = Parts(e.weights, e.kv_cache, e.activations, e.process)
            width = 4 if e.dtype in WIDE else 2
            return Need(parts.total, "estimated", parts, e.token_bytes, e.context, least, width, quantized)
        if found is None:
            return Need()
        dtype = spec.options.get("dtype")
        context = spec.options.get("max_model_len") or found.architecture.context or 0
        token = found.token_bytes(dtype)
        cache = sized or token * context * (spec.concurrency or ANSWERS)
        parts = Parts(weights=found.weights_bytes(dtype), kv_cache=cache)
        width = found.architecture.width(dtype)
        return Need(parts.total, "bound", parts, token, context, least, width, quantized)

    def plan(self, name: str, spec: link.Spec, answer: Planned, tell: Tell) -> None:
        """Say what a model takes with these options: the engine is asked once it has started, and till then `tell`."""

        def planned(found: link.Planned) -> None:
            answer(known(self._planned(name, spec, found.estimate), self.measured(name, spec)), found)

        self.asking.ask(spec, planned, tell)

    def _nursery_ready(self) -> None:
        self._plan_all()
        self.asking.ready()

    def _plan_all(self, names: Iterable[str] | None = None) -> None:
        for name in self._specs if names is None else names:
            spec = self._specs[name]
            self._workers.nursery.plan(spec, partial(self._answered, name, spec))

    def _ask_gpus(self) -> None:
        """Ask about one model: the answer tells of the GPUs too, unless its options are refused."""
        self._plan_all([name for name in self._specs if name not in self.problems][:1])

    def _answered(self, name: str, spec: link.Spec, planned: link.Planned) -> None:
        if self._specs.get(name) is not spec:
            return  # it has changed meanwhile, and is asked about anew
        if planned.reason is not None:
            self.problems[name] = planned.reason
            text = "model '%s': the engine refuses its options: %s"
            log.error(text, name, planned.reason, extra=about(model=name))
        if planned.note:
            text = "model '%s': what it will take cannot be told: %s"
            log.warning(text, name, planned.note, extra=about(model=name))
        if planned.gpus:
            self._devices.seen(planned.gpus)
        if planned.estimate is not None:
            self._estimates[name] = planned.estimate
            self._tell(name)

    def _tell(self, name: str) -> None:
        """Tell the core what a model needs, if that is news."""
        news = (self.need(name).bytes, self.load_s(name))
        if news != self._told.get(name):
            self._told[name] = news
            self._dispatch(on.NeedSeen(self._loop.time(), name, *news))

    # ------------------------------------------------------------ what is learned

    def _ready(self, worker: Worker, woke: link.Woke | None) -> None:
        info, name = worker.info, worker.model
        if info is None or name not in self._specs or self._unread:
            return
        key = self._key(name, self._specs[name])
        entry = self.ledger.entries.get(key)
        if woke is not None:
            self.ledger.woke(key, woke.level, woke.seconds)
            self.ledger.grew(key, woke.taken_bytes)
        elif entry is None or (entry.load_s, entry.taken) != (info.load_s, info.taken_bytes):  # not: adopted again
            took = (info.taken_bytes, info.kv_bytes, info.load_s)
            self.ledger.loaded(key, name, self._devices.kind, *took, filled=info.filled)
        same = [other for other, spec in self._specs.items() if other == name or self._key(other, spec) == key]
        for other in same:  # the same weights and options, under whatever name
            if other in self._specs:  # what the core is told may have it forget models
                self._tell(other)
        self._tell_sleep(name, info)

    def _asleep(self, worker: Worker) -> None:
        if worker.asleep is not None and worker.model in self._specs and not self._unread:
            self.ledger.slept(self._key(worker.model, self._specs[worker.model]), worker.asleep.left_bytes)
            self._tell_sleep(worker.model, worker.asleep.info)

    def _sleep_failed(self, worker: Worker, reason: str) -> None:
        model = self._models.get(worker.model)
        if worker.model in self._specs and not self._unread and not (model and model.suspended):
            self.ledger.cannot_sleep(self._key(worker.model, self._specs[worker.model]), reason)

    def _tell_sleep(self, name: str, info: link.Info) -> None:
        """Tell the core how a model sleeps: as its engine says, and as it was seen."""
        entry = self.ledger.entries.get(self._key(name, self._specs[name]))
        why_not, left, wake_s = (entry.no_sleep, entry.asleep, entry.wake_s) if entry else ("", 0, {})
        left = left or self._planned(name, self._specs[name]).parts.process
        sleep = Sleep(info.no_sleep or why_not, info.device_weights, left, wake_s)
        self._dispatch(on.SleepSeen(self._loop.time(), name, sleep))

    def _stats(self, worker: Worker) -> None:
        name = worker.model
        if worker.stats is None or name not in self._specs:
            return
        if self.ledger.grew(self._key(name, self._specs[name]), worker.stats.most_bytes, full=worker.stats.full):
            self._tell(name)

    def _to_fill(self, name: str) -> bool:
        """Return whether it is not known yet what its largest batch takes."""
        if name not in self._specs or self._unread:
            return False
        entry = self.ledger.entries.get(self._key(name, self._specs[name]))
        return entry is None or not (entry.full or entry.filled)

    def _short(self, name: str) -> None:
        """It has run out of memory: with what it was taken to need, it is not tried again."""
        if name in self._specs and not self._unread:
            self.ledger.short(self._key(name, self._specs[name]), name, self._devices.kind, self.need(name).bytes)
            self._tell(name)

    async def close(self) -> None:
        """Return when all that was learned is written."""
        await self.ledger.close()


def _read_all(sources: Mapping[str, Path]) -> dict[str, Folder | str]:
    found: dict[str, Folder | str] = {}
    for name, path in sources.items():
        try:
            found[name] = folder.read(path)
        except Unreadable as error:
            found[name] = str(error)
    return found
