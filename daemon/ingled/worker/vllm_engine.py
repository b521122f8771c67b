"""The engine that is vLLM: the only file that knows it, and the place for the differences between its versions.

`vllm_names` lists every name of vLLM on which this file relies: a new one is added there too.
The process must have been forked by the nursery, or have `ingled.worker.environment` applied before this import.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
import torch
from ingle.wire.schema import ChatBody, ChatMessage, CompleteBody, Sampling
from vllm import exceptions
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.platforms import current_platform
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.renderers.params import ChatParams
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.version import __version__

from ingled.link import Info, Spec
from ingled.worker import log_tail
from ingled.worker.continuation import Continuation
from ingled.worker.engine import (
    Delta,
    End,
    EngineDead,
    EngineRefused,
    Load,
    LoadError,
    Report,
    Request,
    answer_too_long,
    prompt_too_long,
)
from ingled.worker.group import die_with_parent
from ingled.worker.vllm_errors import failed, one_line, unrendered
from ingled.worker.vllm_probe import NAME, give_back
from ingled.worker.vllm_values import named, readable

KV_BYTES = 256 << 20
"""Smallest KV cache where the profile names neither size nor concurrency; vLLM would take 92 % of the memory."""
CONCURRENCY = 4
"""Answers of full length that such a KV cache holds."""
GPU_SHARE = 0.05
"""Part of a GPU that must be free when a model with a KV cache of given size is loaded; vLLM asks for 92 % of it."""
POLL_S = 0.25
LONGEST_FOLDER = 107 - 37
"""A unix socket's path has 107 bytes, and vLLM puts `/` and a UUID after the folder."""

T = TypeVar("T")
_GRACEFUL: type[Exception] | tuple[()] = getattr(exceptions, "GracefulHTTPError", ())  # not in 0.26
_CLIENT: type[Exception] = getattr(exceptions, "VLLMClientError", VLLMValidationError)  # not in 0.26


class Counter(StatLoggerBase):  # type: ignore[misc]
    """Keeps what vLLM tells after each step of the engine."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        self.now = Load()

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Add one step."""
        if scheduler_stats is not None:
            self.now = replace(
                self.now,
                running=scheduler_stats.num_running_reqs,
                waiting=scheduler_stats.num_waiting_reqs,
                kv_use=scheduler_stats.kv_cache_usage,
                cached_tokens=self.now.cached_tokens + scheduler_stats.prefix_cache_stats.hits,
            )
        if iteration_stats is not None:
            self.now = replace(
                self.now,
                prompt_tokens=self.now.prompt_tokens + iteration_stats.num_prompt_tokens,
                completion_tokens=self.now.completion_tokens + iteration_stats.num_generation_tokens,
            )

    def log_engine_initialized(self) -> None:
        """Do nothing: loading is reported by the engine."""


class VllmEngine:
    """Implements `ingled.worker.engine.Engine`."""

    def __init__(self, spec: Spec, folder: Path, log: Path | None) -> None:
        self._spec = spec
        self._folder = folder
        self._log = log
        self._counter: Counter | None = None
        self._engine: Any = None
        self._context = 0
        self._defaults: dict[str, Any] = {}
        self._eos: set[int] = set()
        self._preparing: set[str] = set()
        self._aborted: set[str] = set()
        # EngineCore dies with the *thread* that forked it (PR_SET_PDEATHSIG): this one lives as long as the engine.
        self._thread = ThreadPoolExecutor(1, "engine")

    # ------------------------------------------------------------ life

    async def load(self, report: Report) -> Info:
        """Start EngineCore and generate one token."""
        use_folder(self._folder)
        die_with_parent()
        seen = self._log.stat().st_size if self._log else 0
        report("configuring", 0)
        config = await self._in_thread(self._configure)
        report("weights", 5)
        start = asyncio.ensure_future(self._in_thread(self._start, config))
        while not start.done():
            await asyncio.wait([start], timeout=POLL_S)
            lines = log_tail.read_lines(self._log, seen) if self._log else []
            if percent := log_tail.shards_percent(lines):
                report("weights", 5 + percent * 80 // 100) if percent < 100 else report("warming", 85)
        try:
            self._engine = start.result()
        except Exception as error:
            lines = log_tail.read_lines(self._log, seen) if self._log else []
            raise LoadError(log_tail.root_cause(lines) or one_line(error)) from error
        self._context = config.model_config.max_model_len
        self._eos = eos_of(config.model_config, self._engine.renderer.get_tokenizer())
        self._defaults = config.model_config.get_diff_sampling_param() | named(
            msgspec.convert(self._spec.sampling, Sampling)
        )
        report("warming", 95)
        await self._warm()
        give_back()
        return self._info(*await self._settle())

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
        return AsyncLLM.from_vllm_config(config, stat_loggers=[self._count], disable_log_stats=True)

    def _count(self, vllm_config: Any, engine_index: int = 0) -> Counter:
        self._counter = Counter(vllm_config, engine_index)
        return self._counter

    async def _warm(self) -> None:
        """Generate one token: what a first request pays for is paid before `Ready`, and a broken model shows."""
        hello = ChatBody(messages=[ChatMessage(role="user", content="Hello")])
        with contextlib.suppress(EngineRefused):  # a model may have no chat template
            await self._render(hello, "")
        body = CompleteBody(prompt="Hello", max_tokens=1, temperature=0.0, ignore_eos=True)
        try:
            async for _ in self.run(Request("warm", body, stream=False, salt="warm")):
                pass
        except EngineRefused as error:
            raise LoadError(f"the first token failed: {error.message}") from error
        except EngineDead as error:
            lines = log_tail.read_lines(self._log) if self._log else []
            raise LoadError(f"the engine died at its first token: {log_tail.root_cause(lines) or error}") from error
        if self._counter:
            self._counter.now = Load()

    async def _settle(self) -> tuple[int, int]:
        """Let EngineCore give back what loading has left over; returns what KV cache and process have of the device."""
        config = self._engine.vllm_config
        said = config.cache_config.kv_cache_memory_bytes or 0
        if config.parallel_config.worker_extension_cls != NAME:  # the profile has one of its own
            return int(said), 0
        found = await self._engine.collective_rpc("ingle_settle")
        return sum(one["kv_cache"] for one in found) or int(said), sum(one["device"] for one in found)

    def _info(self, kv_bytes: int, device_bytes: int) -> Info:
        config = self._engine.vllm_config
        cache = config.cache_config
        tokens = getattr(cache, "kv_cache_size_tokens", None) or (cache.num_gpu_blocks or 0) * cache.block_size
        return Info(
            engine=f"vllm {__version__}",
            context=self._context,
            kv_tokens=int(tokens),
            kv_bytes=kv_bytes,
            taken_bytes=device_bytes,
            weights_bytes=sum(file.stat().st_size for file in Path(self._spec.source).glob("*.safetensors")),
            max_running=config.scheduler_config.max_num_seqs,
            device="cpu" if current_platform.is_cpu() else current_platform.get_device_name(),
        )

    async def health(self, deadline: float) -> None:
        """Ask EngineCore anything; it answers between two steps."""
        if self._engine.errored:
            raise EngineDead("EngineCore has died")
        try:
            await asyncio.wait_for(self._engine.is_sleeping(), deadline)
        except TimeoutError:
            raise EngineDead(f"EngineCore has answered nothing for {deadline:.0f} s") from None
        except EngineDeadError as error:
            raise EngineDead("EngineCore has died") from error

    async def shutdown(self) -> None:
        """End EngineCore."""
        if self._engine is not None:
            await self._in_thread(self._engine.shutdown, 0)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    # ------------------------------------------------------------ requests

    async def run(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Render, check the length, generate; behind the tokens of an earlier engine, where there are some."""
        self._preparing.add(request.id)
        try:
            prompt = await self._render(request.body, request.salt)
            tokens = len(prompt["prompt_token_ids"])
            params = self._sampling(request, tokens)
            if request.id in self._aborted:
                yield Delta(end=End("abort", tokens, 0, 0))
                return
        finally:
            self._preparing.discard(request.id)
            self._aborted.discard(request.id)
        if request.tokens:
            deltas = self._go_on(request, prompt, params)
        else:
            deltas = self._generate(request, prompt, params, tokens)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    async def _go_on(self, request: Request, prompt: Any, params: Any) -> AsyncGenerator[Delta, None]:
        """Generate behind the tokens of an engine that died: with them as prompt, and their text made again."""
        body, before = request.body, list(request.tokens)
        if params.structured_outputs is not None or params.presence_penalty or params.frequency_penalty:
            text = "its engine died, and the state of its grammar or penalties died with it"
            raise EngineRefused("worker_died", text, "ask again", fault="worker")
        ids = prompt["prompt_token_ids"]
        told = SimpleNamespace(sampling_params=params, prompt_token_ids=ids, prompt_embeds=None, request_id=request.id)
        tokenizer = self._engine.renderer.get_tokenizer()
        text_of = Continuation(IncrementalDetokenizer.from_new_request(tokenizer, told), before, request.offset)
        over = "stop" if text_of.stop is not None or (before[-1] in self._eos and not body.ignore_eos) else None
        over = over or ("length" if len(before) >= params.max_tokens else None)
        if over is not None:  # its end was on the way when the engine died
            rest = text_of.text([], finished=True, stop_terminated=False)
            yield Delta(rest, end=End(over, len(ids), 0, text_of.count, 0.0, text_of.stop))
            return
        longer = {key: value for key, value in prompt.items() if key != "prompt"} | {"prompt_token_ids": ids + before}
        shorter = copy(params)
        shorter.max_tokens, shorter.stop = params.max_tokens - len(before), []
        async with aclosing(self._generate(request, longer, shorter, len(ids))) as deltas:
            async for delta in deltas:
                end = delta.end
                at_stop = end is not None and end.finish == "stop"
                delta.text = text_of.text(delta.tokens, finished=end is not None, stop_terminated=at_stop)
                if text_of.stop is not None:
                    end = End("stop", len(ids), 0, 0, 0.0, text_of.stop)
                if end is not None:
                    delta.end = replace(end, cached=min(end.cached, len(ids)), completion=text_of.count)
                yield delta
                if end is not None:
                    return

    async def _generate(self, request: Request, prompt: Any, params: Any, tokens: int) -> AsyncGenerator[Delta, None]:
        """Generate, and tell vLLM's outputs as ours; `tokens` are those of the client's prompt."""
        outputs = self._engine.generate(prompt, params, request.id, priority=request.priority)
        cached = made = 0
        try:
            async for output in outputs:
                answer = output.outputs[0]
                made += len(answer.token_ids)
                cached = output.num_cached_tokens or cached
                delta = Delta(answer.text, list(answer.token_ids))
                if request.body.logprobs and answer.logprobs:
                    delta.logprobs = readable(answer.logprobs, delta.tokens, request.body.top_logprobs)
                if output.finished:
                    if answer.finish_reason == "error":
                        raise failed("EngineCore ended the answer with an error")
                    stop = answer.stop_reason if isinstance(answer.stop_reason, str) else None
                    first = output.metrics.first_token_latency * 1000 if output.metrics else 0.0
                    finish = answer.finish_reason or "stop"
                    delta.end = End(finish, tokens, cached, made, first, stop)
                yield delta
        except Exception as error:
            raise self._translate(error, request.body) from error
        finally:
            await outputs.aclose()

    async def abort(self, request_id: str) -> None:
        """End the request in EngineCore; one that is still rendered ends before it gets there."""
        if request_id in self._preparing:
            self._aborted.add(request_id)
        try:
            await self._engine.abort(request_id)
        except EngineDeadError:
            return  # the request's own task says so

    def load_now(self) -> Load:
        """Return the last step's counts; vLLM tells nothing of an abort, nor while it is idle."""
        if self._counter is None or self._engine is None:
            return Load()
        now = self._counter.now
        if self._engine.output_processor.get_num_unfinished_requests() == 0:
            return replace(now, running=0, waiting=0, kv_use=0.0)
        return now

    async def _render(self, body: ChatBody | CompleteBody, salt: str) -> Any:
        renderer = self._engine.renderer
        extras = {"cache_salt": salt} if salt else None
        try:
            # No limit here: vLLM would count no further than it, and the refusal names both numbers.
            if isinstance(body, ChatBody):
                limit = replace(renderer.default_chat_tok_params, max_total_tokens=None)
                chat = [msgspec.to_builtins(message) for message in body.messages]
                for message in chat:
                    if message["name"] is None:
                        del message["name"]
                how = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
                _, prompts = await renderer.render_chat_async([chat], how, limit, prompt_extras=extras)
            else:
                limit = replace(renderer.default_cmpl_tok_params, max_total_tokens=None)
                parsed = parse_model_prompt(self._engine.vllm_config.model_config, body.prompt)
                prompts = await renderer.render_cmpl_async([parsed], limit, prompt_extras=extras)
        except Exception as error:
            raise unrendered(error, body) from error
        return prompts[0]

    def _sampling(self, request: Request, prompt: int) -> Any:
        """Return what the request wants, over the profile's defaults, over the model's own."""
        body = request.body
        if prompt >= self._context:
            raise prompt_too_long(prompt, self._context)
        room = self._context - prompt
        if body.max_tokens is not None and body.max_tokens > room:
            raise answer_too_long(body.max_tokens, prompt, self._context)
        wanted = dict(self._defaults)
        wanted |= named(body)
        wanted["max_tokens"] = min(wanted.get("max_tokens") or room, room)
        if body.logprobs:
            wanted["logprobs"] = body.top_logprobs
        kind = RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY
        try:
            return SamplingParams(**wanted, structured_outputs=structure(body), output_kind=kind)
        except Exception as error:
            raise self._translate(error, body) from error

    def _translate(self, error: Exception, body: Sampling) -> Exception:
        """Return what an error of vLLM is to the one who asked."""
        match error:
            case EngineRefused() | EngineDead():
                return error
            case EngineDeadError():
                return EngineDead("EngineCore has died")
            case EngineGenerateError():
                return failed(one_line(error.__cause__ or error))
        if isinstance(error, _GRACEFUL):
            return EngineRefused("queue_full", one_line(error), "try again later", fault="worker")
        if isinstance(error, _CLIENT | ValueError | TypeError):
            parameter = getattr(error, "parameter", None)
            at = f"body.{parameter}" if parameter in Sampling.__struct_fields__ else None
            if at is None and body.response_format is not None:
                at = "body.response_format"
            return EngineRefused("bad_value", one_line(error), "correct the request", at=at)
        return failed(f"{type(error).__name__}: {one_line(error)}")


def engine_config(spec: Spec) -> Any:
    """Return vLLM's own configuration for a spec. Raises what vLLM raises."""
    if not (Path(spec.source) / "config.json").is_file():
        raise LoadError(f"{spec.source} holds no model: there is no config.json in it")
    options: dict[str, Any] = {
        "load_format": "safetensors",  # never pickle
        "scheduling_policy": "priority",  # arrival decides among equals
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "worker_extension_cls": NAME,
        **spec.options,
        "model": spec.source,
        "served_model_name": spec.model,
    }
    on_cpu = current_platform.is_cpu()
    if on_cpu:
        options.setdefault("enforce_eager", True)  # torch.compile costs 30 s there
    share = None if on_cpu else options.get("gpu_memory_utilization")
    by_hand = os.environ.get("VLLM_CPU_KVCACHE_SPACE") if on_cpu else share
    if options.get("kv_cache_memory_bytes") is None and by_hand:
        return AsyncEngineArgs(**options).create_engine_config()
    if not on_cpu:
        options.setdefault("gpu_memory_utilization", GPU_SHARE)
    config = AsyncEngineArgs(**options).create_engine_config()
    if options.get("kv_cache_memory_bytes") is None:
        options["kv_cache_memory_bytes"] = kv_bytes(config, spec.concurrency)
        config = AsyncEngineArgs(**options).create_engine_config()
    return config


def kv_bytes(config: Any, concurrency: int | None) -> int:
    """Return a KV cache for so many answers of full length; if not said, for some, and not for the last ones."""
    model, block = config.model_config, config.cache_config.block_size
    heads, layers = model.get_total_num_kv_heads(), model.get_total_num_hidden_layers()
    token = 2 * heads * layers * model.get_head_size() * model.dtype.itemsize
    blocks = -(-model.max_model_len // block)
    if concurrency is not None:
        return int(token * block * (blocks * concurrency + 1))  # vLLM keeps one block for itself
    sequences = min(CONCURRENCY, config.scheduler_config.max_num_seqs)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = free // 2 if current_platform.is_cpu() else 1 << 62
    return int(min(max(KV_BYTES, token * block * (blocks * sequences + 1)), most))


def eos_of(model: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: the tokenizer's, and those of the model's generation_config."""
    more = model.try_get_generation_config().get("eos_token_id") or []
    return {tokenizer.eos_token_id, *([more] if isinstance(more, int) else more)} - {None}


def structure(body: Sampling) -> Any:
    """Return the constraint on the answer's form, or None."""
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return StructuredOutputsParams(json_object=True, disable_any_whitespace=True)
    if wanted.json_schema is None:
        hint = "give response_format.json_schema.schema"
        raise EngineRefused("bad_value", "json_schema without a schema", hint, at="body.response_format.json_schema")
    schema = msgspec.msgpack.decode(wanted.json_schema.schema)
    return StructuredOutputsParams(json=schema, disable_any_whitespace=True)


def use_folder(folder: Path) -> None:
    """Let vLLM put its sockets and temporary files there: it removes none of them itself. Raises LoadError."""
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise LoadError(f"the name of the runtime folder is too long for sockets in it: {folder}")
    os.environ["VLLM_RPC_BASE_PATH"] = os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # it remembers the nursery's
