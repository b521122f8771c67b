"""The engine that is vLLM: its life. What it runs is in `vllm_requests`, and how it is asked in one of two clients.

vLLM is imported here, in those files and in `vllm_config` only, which hold the differences between its versions;
`vllm_names` lists every name of it that is used: a new one is added there too. The process must have been forked by the
nursery, or have `ingled.worker.environment` applied before this import.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from ingle.wire.schema import ChatBody, ChatMessage
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.version import __version__

from ingled.link import AddAdapter, Family, Gpu, Info, Spec
from ingled.log_end import read_lines
from ingled.models import adapter
from ingled.models.tensors import Unreadable
from ingled.worker import core_client, vllm_gpu, vllm_log
from ingled.worker.async_client import AsyncClient, Counter
from ingled.worker.children import Children
from ingled.worker.core_client import CoreClient
from ingled.worker.engine import (
    Answer,
    EngineDead,
    EngineHangs,
    EngineRefused,
    Load,
    LoadError,
    Report,
    Request,
    Slept,
)
from ingled.worker.group import die_with_parent
from ingled.worker.largest import Pace, sizes
from ingled.worker.pooling_client import PoolingClient
from ingled.worker.sleeper import DEEP, DeviceMemory, Sleeper
from ingled.worker.vllm_config import engine_config, largest_batch, no_sleep, use_folder
from ingled.worker.vllm_errors import one_line
from ingled.worker.vllm_names import END_USES, METRIC_USES, absent
from ingled.worker.vllm_own import HELLO, MOST_S, WORDS, Own
from ingled.worker.vllm_probe import NAME, give_back
from ingled.worker.vllm_requests import Requests

if TYPE_CHECKING:
    from ingled.worker.vllm_metrics import EngineMetrics

log = logging.getLogger(__name__)

POLL_S = 0.25
FILLING = "trying its largest batch"
"""What a first load is at last, for people."""
SAMPLE_TOKENS = 8
T = TypeVar("T")


class VllmEngine:
    """Implements `ingled.worker.engine.Engine`."""

    def __init__(self, spec: Spec, folder: Path, log_file: Path | None) -> None:
        self._spec = spec
        self._folder = folder
        self._log = log_file
        self._counter: Counter
        self._engine: Any = None
        self._requests: Requests
        self._numbers = count(1)
        self._client: AsyncClient | CoreClient | PoolingClient
        self._measures = self._tried = False
        self._metrics: EngineMetrics | None = None
        self._sleeper: Sleeper
        self._own: Own
        self._kv_tokens = 0
        self._began_at = 0
        self._children = Children()
        # EngineCore dies with the *thread* that forked it (PR_SET_PDEATHSIG): this one lives as long as the engine.
        self._thread = ThreadPoolExecutor(1, "engine")

    async def load(self, report: Report) -> Info:
        """Start EngineCore and ask it something small."""
        use_folder(self._folder)
        die_with_parent()
        seen = self._began_at = self._log.stat().st_size if self._log else 0
        report("configuring", 0)
        config = await self._in_thread(self._configure)
        report("weights", 5)
        start = asyncio.ensure_future(self._in_thread(self._start, config))
        while not start.done():
            await asyncio.wait([start], timeout=POLL_S)
            self._children.look()
            lines = read_lines(self._log, seen) if self._log else []
            if percent := vllm_log.shards_percent(lines):
                report("weights", 5 + percent * 80 // 100) if percent < 100 else report("warming", 85)
        try:
            self._engine = start.result()
        except Exception as error:
            lines = read_lines(self._log, seen) if self._log else []
            raise LoadError(vllm_log.root_cause(lines) or one_line(error)) from error
        self._requests = Requests(self._spec, self._engine)
        self._client = self._choose()
        self._own = Own(self._engine, self._client, self._counter)
        report("warming", 95)
        found = await self._while_alive(self._make_ready(), "before it was ready")
        self._sleeper = Sleeper(self, found["weights"] + found["kv_cache"], found["device"])
        info = self._info(found)
        self._kv_tokens = info.kv_tokens
        return info

    def _configure(self) -> Any:
        if current_platform.is_cpu() and hasattr(torch.cpu, "_init_amx"):
            torch.cpu._init_amx()  # else a first short prompt in bfloat16 is a SIGILL
        try:
            config = engine_config(self._spec)
        except Exception as error:
            raise LoadError(one_line(error)) from error
        if current_platform.is_cpu() and config.model_config.enforce_eager:
            # vLLM compiles a few small functions all the same: the first logprobs took 2 s.
            torch.compiler.set_stance("force_eager")
        return config

    def _start(self, config: Any) -> Any:
        if current_platform.is_cpu():
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"  # create_engine_config has just set spawn
        # The core counts because AsyncLLM has somebody to tell.
        return AsyncLLM.from_vllm_config(config, stat_loggers=[self._count], disable_log_stats=True)

    def _count(self, vllm_config: Any, engine_index: int = 0) -> Counter:
        self._counter = Counter(vllm_config, engine_index)
        return self._counter

    def _choose(self) -> AsyncClient | CoreClient | PoolingClient:
        """Return how the engine is asked: as the profile says, or the cheaper way where this vLLM has it."""
        if self._pools:
            return PoolingClient(self._engine, self._requests, self._counter)
        wanted = self._spec.front
        why = None if wanted == "async" else core_client.obstacle(self._engine)
        if wanted == "core" and why is not None:
            raise LoadError(f'front = "core" cannot be had: {why}; leave it out, and AsyncLLM is used')
        if wanted == "async" or why is not None:
            log.info("requests go through AsyncLLM: %s", why or "the profile says so")
            return AsyncClient(self._engine, self._requests, self._counter)
        return CoreClient(self._engine, self._requests)

    @property
    def _tells_ends(self) -> bool:
        """It is known that an answer is done before it is taken: else a paused reader would keep its place."""
        return not isinstance(self._client, AsyncClient) or not absent(END_USES)

    @property
    def _pools(self) -> bool:
        """The model makes vectors of texts."""
        return bool(self._engine.vllm_config.model_config.runner_type == "pooling")

    async def _make_ready(self) -> dict[str, int]:
        """Let EngineCore do all for the first time that requests need; returns what its parts have of the device."""
        await self._client.start()
        await self._warm()
        self.measure(self._measures)
        give_back()
        return await self._settle()

    async def _while_alive(
        self, work: Coroutine[Any, Any, T], when: str, meanwhile: Callable[[], None] = lambda: None
    ) -> T:
        """Return what this returns, and call `meanwhile` until then.

        Raises LoadError when EngineCore dies: what it was asked, vLLM waits for then.
        """
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait([task], timeout=POLL_S)
            meanwhile()
            if self._engine.errored and not task.done():
                task.cancel()
                raise self._died(when)
        return task.result()

    def _died(self, when: str) -> LoadError:
        """Return that EngineCore has, and why, as far as it was killed or has said so."""
        lines = read_lines(self._log, self._began_at) if self._log else []
        said = vllm_log.root_cause(lines)
        killed = self._children.killed() or (self.killed() and not said)
        why = "it was killed" if killed else said or "see its log"
        return LoadError(f"the engine died {when}: {why}")

    async def _warm(self) -> None:
        """Ask something small: what a first request pays for is paid before `Ready`, and a broken model shows."""
        what = "vector" if self._pools else "token"
        if not self._pools:
            hello = ChatBody(messages=[ChatMessage(role="user", content=HELLO)])
            with contextlib.suppress(EngineRefused):  # a model may have no chat template
                await self._requests.prompts.render(hello, "")
        try:
            await self._own.small(1)
        except EngineRefused as error:
            raise LoadError(f"the first {what} failed: {error.message}") from error
        except EngineDead as error:
            raise self._died(f"at its first {what}") from error

    async def _settle(self) -> dict[str, int]:
        """Let EngineCore give back what loading has left over; returns the bytes of the device that its parts have."""
        config = self._engine.vllm_config
        said = (config.cache_config.kv_cache_memory_bytes or 0) * config.parallel_config.tensor_parallel_size
        if config.parallel_config.worker_extension_cls != NAME:  # the profile has one of its own
            return {"kv_cache": int(said), "weights": 0, "device": 0}
        found = await self._engine.collective_rpc("ingle_settle")
        sums = {part: sum(one[part] for one in found) for part in ("kv_cache", "weights", "device")}
        return sums if sums["kv_cache"] or self._pools else sums | {"kv_cache": int(said)}

    def _info(self, found: dict[str, int]) -> Info:
        config = self._engine.vllm_config
        cache = config.cache_config
        tokens = getattr(cache, "kv_cache_size_tokens", None) or (cache.num_gpu_blocks or 0) * cache.block_size
        return Info(
            engine=f"vllm {__version__}",
            context=config.model_config.max_model_len,
            kv_tokens=int(tokens) if found["kv_cache"] else 0,
            kv_bytes=found["kv_cache"],
            taken_bytes=found["device"],
            weights_bytes=sum(file.stat().st_size for file in Path(self._spec.source).glob("*.safetensors")),
            max_running=config.scheduler_config.max_num_seqs if self._tells_ends else 0,
            batch_tokens=largest_batch(config, int(tokens) if found["kv_cache"] else 0),
            device="cpu" if current_platform.is_cpu() else current_platform.get_device_name(),
            no_sleep=no_sleep(config),
            device_weights=found["weights"],
        )

    @property
    def fills(self) -> bool:
        """Return whether it is on a CPU; on a GPU vLLM has run it, and with adapters it would tell too little."""
        return bool(current_platform.is_cpu()) and not self._spec.adapters

    async def fill(self, report: Report) -> bool:
        """Run it, and report how far that is by the time that a part of it has taken."""
        report(FILLING, 0)
        pace = Pace()
        work = self._fill(pace.expect)
        return await self._while_alive(work, "at its largest batch", lambda: report(FILLING, pace.percent()))

    async def _fill(self, expect: Callable[[float], None]) -> bool:
        config, cached = self._engine.vllm_config, self._kv_tokens
        scheduler, block = config.scheduler_config, config.cache_config.block_size
        batch, context = largest_batch(config, cached), config.model_config.max_model_len
        try:
            words = (await self._requests.prompts.render_texts([WORDS], "", "body.prompt"))[0]["prompt_token_ids"]
            of = sizes(scheduler.max_num_seqs, batch, context, cached, block)
            async with asyncio.timeout(10 * MOST_S):
                filled = bool(of) and await self._own.largest(of, words, expect)
            give_back()
            await self._settle()
            return filled
        except (EngineDead, EngineDeadError) as error:
            raise self._died("at its largest batch") from error
        except Exception as error:
            log.warning("what the largest batch takes is not known: it failed: %s", one_line(error))
            return False

    def run(self, request: Request, news: Callable[[], None]) -> Answer:
        """Render, check the length, generate; behind the tokens of an earlier engine, where there are some."""
        return self._client.run(request, news)

    def hold(self, request: Request) -> None:
        """Render it already, when there is time."""
        if not isinstance(self._client, PoolingClient):
            self._client.ahead.add(request)

    def forget(self, id: str) -> None:
        """Render it no more."""
        if not isinstance(self._client, PoolingClient):
            self._client.ahead.forget(id)

    async def add_adapter(self, add: AddAdapter) -> None:
        """Have EngineCore load an adapter, before any request names it: one that it cannot load would end it."""
        await self.drop_adapter(add.model)
        if add.model not in self._spec.adapters:
            base = self._spec.model
            raise LoadError(
                f"'{base}' was loaded before it had this adapter, without room for it: unload '{base}' first"
            )
        try:
            await asyncio.to_thread(adapter.check, Path(add.path), Path(self._spec.source))
        except Unreadable as error:
            raise LoadError(str(error)) from error
        # Under a name of its own each time: what was computed with earlier weights stays in the prefix cache.
        number = next(self._numbers)
        lora = LoRARequest(f"{add.model}#{number}", number, add.path)
        try:
            await self._engine.add_lora(lora)
        except EngineDeadError as error:
            raise EngineDead("EngineCore has died") from error
        except Exception as error:
            raise LoadError(one_line(error)) from error
        self._requests.adapt(add.model, lora, add.sampling)

    async def drop_adapter(self, name: str) -> None:
        """Have EngineCore forget an adapter."""
        if (lora := self._requests.forget(name)) is not None:
            try:
                await self._engine.remove_lora(lora.lora_int_id)
            except EngineDeadError as error:
                raise EngineDead("EngineCore has died") from error

    def load_now(self) -> Load:
        """Return the last step's counts."""
        if self._engine is None:
            return Load()
        return self._own.without(self._client.load_now())

    def measure(self, wanted: bool) -> None:
        """Have vLLM's own logger count, from the end of the load on, where this vLLM has it as ingle knows it."""
        self._measures = wanted
        if self._engine is None:
            return
        if wanted and not self._tried:
            self._tried = True
            if lacking := absent(METRIC_USES):
                log.warning("there are no metrics of vLLM's own: it has not %s", ", ".join(lacking))
            else:
                from ingled.worker.vllm_metrics import EngineMetrics

                self._metrics = EngineMetrics(self._engine.vllm_config)
        self._own.measure(self._metrics if wanted else None)

    def families(self) -> list[Family]:
        """Return what vLLM's logger has counted."""
        metrics = None if self._engine is None else self._own.metrics
        now = self.load_now()
        return [] if metrics is None else metrics.families(idle=not (now.running or now.waiting))

    def killed(self) -> bool:
        """Look at EngineCore, and at what it says of its own processes."""
        lines = read_lines(self._log, self._began_at) if self._log else []
        return self._children.killed() or vllm_log.rank_killed(lines)

    async def health(self, deadline: float) -> None:
        """Ask EngineCore anything; it answers between two steps."""
        if self._engine.errored:
            raise EngineDead("EngineCore has died")
        try:
            await asyncio.wait_for(self._engine.is_sleeping(), deadline)
        except TimeoutError:
            raise EngineHangs(f"EngineCore has answered nothing for {deadline:.0f} s") from None
        except EngineDeadError as error:
            raise EngineDead("EngineCore has died") from error

    async def sleep(self, level: int) -> Slept:
        """Let EngineCore sleep, and see that it gave weights and KV cache back."""
        return await self._sleeper.sleep(level)

    async def check(self) -> None:
        """See that it answers as before."""
        await self._sleeper.check()

    async def wake(self) -> int:
        """Wake EngineCore, and see that it answers as before."""
        return await self._sleeper.wake()

    def gpus(self) -> list[Gpu]:
        """Ask the driver."""
        return vllm_gpu.all_seen(self._spec.options.get("tensor_parallel_size") or 1)

    async def device_memory(self) -> DeviceMemory:
        """Return what EngineCore has of its devices, and what is free there."""
        found = await self._engine.collective_rpc("ingle_memory")
        own = None if any(one["own"] is None for one in found) else sum(one["own"] for one in found)
        return DeviceMemory(own, sum(one["free"] for one in found))

    async def sample(self) -> object:
        """Return the tokens behind a fixed prompt, or its vector."""
        delta = await self._own.small(SAMPLE_TOKENS)
        return delta.tokens, delta.vectors

    async def suspend(self, level: int) -> None:
        """Let EngineCore sleep; requests that still run end before."""
        await self._engine.sleep(level, mode="wait")

    async def resume(self, level: int) -> None:
        """Wake EngineCore. At level 2 the weights are gone, and are read again before there is a KV cache."""
        if level == DEEP:
            await self._engine.wake_up(["weights"])
            await self._engine.collective_rpc("reload_weights")
            await self._engine.wake_up(["kv_cache"])
        else:
            await self._engine.wake_up()
        if await self._engine.is_sleeping():
            raise RuntimeError("EngineCore says that it still sleeps")

    async def shutdown(self) -> None:
        """End EngineCore."""
        if self._engine is not None:
            await self._in_thread(self._engine.shutdown, 0)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
