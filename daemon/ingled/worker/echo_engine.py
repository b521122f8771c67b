"""An engine without weights: the answer is computed from the prompt, so that tests know it beforehand.

It answers a chat with the words of the last user message and a completion with those of the prompt, one token a
word, again and again where more tokens are wanted. Token ids are positions in the answer. Like vLLM it merges what
is not pulled, counts tokens, refuses what is too long, and stops at stop strings. Its vectors count the
letters of a text. What an adapter answers is in capitals.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
from ingle.wire.schema import ChatBody, CompleteBody, EmbedBody, Sampling
from msgspec import Struct

from ingled.link import AddAdapter, Estimate, Family, Gpu, Info, Planned, Spec
from ingled.worker import vectors
from ingled.worker.echo_answer import LETTERS, answer_to, common, letters, prompt_words, words_of
from ingled.worker.echo_sleep import EchoBed
from ingled.worker.engine import (
    Delta,
    End,
    EngineDead,
    EngineRefused,
    Load,
    LoadError,
    Report,
    Request,
    Slept,
    no_such_adapter,
)
from ingled.worker.generated import Generated
from ingled.worker.sleeper import Sleeper

REMEMBERED = 64
"""Prompts of one salt that the simulated prefix cache keeps."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """What `Spec.echo` may hold."""

    load_ms: float = 0.0
    """Time that loading takes."""
    delay_ms: float = 0.0
    """Time that one token takes."""
    tokens: int | None = None
    """Length of every answer; without it, an answer has as many words as its question."""
    context: int | None = None
    """Longest prompt plus answer; else `max_model_len` of the options, else 8192."""
    fail: Literal["", "load", "refuse", "crash", "die", "exit", "hang", "stall"] = ""
    """Fail at loading; or at every request: refuse it, raise, lose the engine, end, say nothing, stand still."""
    memory: Estimate = Estimate()
    """What it says that it takes; it takes nothing."""
    gpu: Gpu | None = None
    """The GPU on which it says it is."""
    sleep: Literal["", "works", "raises", "keeps", "changes", "forgets"] = ""
    """Whether it can sleep; or it fails at that, keeps its memory, or answers differently when it wakes, or always."""
    gpu_file: str = ""
    """File in which stands how it is with the GPU that there is not: JSON, as `ingled.link.Gpu`."""
    sleep_ms: float = 0.0
    """Time that falling asleep takes, and waking."""
    fail_at: int = 0
    """Tokens of an answer before `crash`, `die`, `exit`, `hang` and `stall`."""


def read_options(spec: Spec) -> Options:
    """Return the options in the spec. Raises LoadError."""
    try:
        return msgspec.convert(spec.echo, Options)
    except msgspec.ValidationError as error:
        raise LoadError(f"echo options: {error}") from error


def plan(spec: Spec, ref: int = 0) -> Planned:
    """Return what the options say that it takes, or why they are refused."""
    try:
        options = read_options(spec)
        return Planned(ref, estimate=options.memory, gpus=[options.gpu] if options.gpu else [])
    except LoadError as error:
        return Planned(ref, str(error))


class Answer:
    """One running answer: tokens arrive by a task of their own and merge until they are pulled."""

    def __init__(self, words: list[str], made: int = 0) -> None:
        self.words = words
        self.made = made
        self.pulled = made
        self.aborted = False
        self.failure: Exception | None = None
        self._news = asyncio.Event()

    async def make(self, options: Options, over: Callable[[], None]) -> None:
        """Make one token after the other; `over` is called behind the last."""
        failing = options.fail in ("crash", "die", "exit", "hang", "stall")
        for index in range(self.made, len(self.words)):
            if failing and index == options.fail_at:
                await self._fail(options.fail)
                return
            await asyncio.sleep(options.delay_ms / 1000)
            self.made += 1
            self._news.set()
        over()

    async def _fail(self, how: str) -> None:
        if how == "exit":
            os._exit(3)
        if how == "stall":
            time.sleep(3600)
        if how == "hang":
            return
        self.failure = RuntimeError("the echo engine was told to crash")
        if how == "die":
            self.failure = EngineDead("the echo engine was told to die")
        self._news.set()

    def abort(self) -> None:
        """End the answer where it is."""
        self.aborted = True
        self._news.set()

    async def pull(self) -> list[int]:
        """Return the ids of the tokens made since the last pull, at least one of them unless aborted."""
        while self.made == self.pulled and not self.aborted:
            if self.failure:
                raise self.failure
            self._news.clear()
            await self._news.wait()
        start, self.pulled = self.pulled, self.made
        return list(range(start, self.pulled))


class EchoEngine:
    """Implements `ingled.worker.engine.Engine`."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._options = Options()
        self._context = 0
        self._running: dict[str, Answer] = {}
        self._seen: dict[str, deque[list[str]]] = {}
        self._totals = [0, 0, 0]
        self._most = [0, 0]
        self._measures = False
        self._sleeper: Sleeper | None = None
        self._adapters: dict[str, AddAdapter] = {}

    async def load(self, report: Report) -> Info:
        """Wait as long as the options say."""
        started = time.monotonic()
        self._options = read_options(self._spec)
        limit = self._options.context or self._spec.options.get("max_model_len") or 8192
        self._context = int(limit)
        report("weights", 0)
        await asyncio.sleep(self._options.load_ms / 1000)
        if self._options.fail == "load":
            raise LoadError("the echo engine was told to fail")
        report("warming", 100)
        places = int(self._spec.options.get("max_num_seqs", 1 << 20))
        return self._info(places, time.monotonic() - started)

    def _info(self, places: int, load_s: float) -> Info:
        how, memory = self._options.sleep, self._options.memory
        batch = int(self._spec.options.get("max_num_batched_tokens", 0))
        info = Info("echo", self._context, max_running=places, batch_tokens=batch, load_s=load_s)
        if not how:
            return info
        held = memory.weights + memory.kv_cache
        taken = held + memory.activations + memory.process
        self._sleeper = Sleeper(EchoBed(how, memory, self._options.sleep_ms / 1000), held, taken)
        return msgspec.structs.replace(info, no_sleep="", device_weights=memory.weights, taken_bytes=taken)

    def killed(self) -> bool:
        """Return False: it has no processes."""
        return False

    @property
    def fills(self) -> bool:
        """Return False: no batch takes anything."""
        return False

    async def fill(self, report: Report) -> bool:
        """Do nothing: no batch takes anything."""
        return False

    def run(self, request: Request, news: Callable[[], None]) -> Generated:
        """Begin to answer."""
        counts = partial(self._counts, request)
        return Generated(self.deltas(request, news), partial(self.abort, request.id), news, counts)

    def hold(self, request: Request) -> None:
        """Do nothing: there is nothing to prepare."""

    def forget(self, id: str) -> None:
        """Do nothing."""

    def _counts(self, request: Request) -> tuple[int, int] | None:
        answer = self._running.get(request.id)
        if answer is None or answer.made < len(answer.words):
            return None
        return sum(1 for _ in prompt_words(request.body)), answer.made

    async def _embed(self, body: EmbedBody) -> Delta:
        """Return unit vectors that tell how often each letter is in a text: `dimensions` of them, else 26."""
        size = body.dimensions or len(LETTERS)
        vectors.check_room(len(body.input), size)
        counts = [len(words_of(text)) for text in body.input]
        for index, count in enumerate(counts):
            if count > self._context:
                raise vectors.text_too_long(index, count, self._context)
        await asyncio.sleep(self._options.delay_ms / 1000 * sum(counts))
        self._totals[0] += sum(counts)
        return Delta(
            end=End("stop", sum(counts), 0, 0), vectors=vectors.pack([letters(text, size) for text in body.input])
        )

    async def deltas(self, request: Request, news: Callable[[], None] = lambda: None) -> AsyncGenerator[Delta, None]:
        """Answer with the words of the question."""
        started = time.monotonic()
        if self._options.fail == "refuse":
            raise EngineRefused("bad_value", "the echo engine was told to refuse", "ask another model")
        body = request.body
        if isinstance(body, EmbedBody):
            yield await self._embed(body)
            return
        prompt = list(prompt_words(body))
        if request.adapter and request.adapter not in self._adapters:
            raise no_such_adapter(request.adapter)
        said = self._adapters[request.adapter].sampling if request.adapter else self._spec.sampling
        words, finish, stop = answer_to(
            body, len(prompt), self._context, self._options.tokens, msgspec.convert(said, Sampling)
        )
        if request.adapter:
            words = [word.upper() for word in words]
        cached = self._remember(request.salt, prompt)
        self._totals[0] += len(prompt)
        self._totals[1] += cached
        answer = self._running[request.id] = Answer(words, len(request.tokens))
        self._most = [max(self._most[0], len(self._running)), max(self._most[1], len(prompt) - cached)]
        maker = asyncio.create_task(answer.make(self._options, news))
        first_ms = 0.0
        try:
            ended = answer.made >= len(words)
            behind = "".join(words[: answer.made]).encode()[request.offset :].decode()
            whole = Delta(behind if ended else "")
            while not ended:
                tokens = await answer.pull()
                first_ms = first_ms or (time.monotonic() - started) * 1000
                self._totals[2] += len(tokens)
                ended = answer.aborted or answer.pulled == len(words)
                delta = self._delta(body, words, tokens)
                delta.text, behind = behind + delta.text, ""
                if request.stream and not ended:
                    yield delta
                    continue
                whole.text += delta.text
                whole.tokens += delta.tokens
                if delta.logprobs is not None:
                    whole.logprobs = (whole.logprobs or []) + delta.logprobs
            if answer.aborted:
                finish, stop = "abort", None
            whole.end = End(finish, len(prompt), cached, answer.pulled, first_ms, stop)
            yield whole
        finally:
            maker.cancel()
            del self._running[request.id]

    async def add_adapter(self, add: AddAdapter) -> None:
        """Look whether there is such a folder, for as long as a load takes."""
        await asyncio.sleep(self._options.load_ms / 1000)
        if not Path(add.path).is_dir():
            raise LoadError(f"{add.path} holds no adapter: there is no such folder")
        self._adapters[add.model] = add

    async def drop_adapter(self, name: str) -> None:
        """Forget it."""
        self._adapters.pop(name, None)

    async def abort(self, request_id: str) -> None:
        """End the answer with what it has."""
        if answer := self._running.get(request_id):
            answer.abort()

    def load_now(self) -> Load:
        """Return the counts."""
        return Load(len(self._running), 0, 0.0, *self._totals, *self._most)

    def measure(self, wanted: bool) -> None:
        """Count, or no more."""
        self._measures = wanted

    def families(self) -> list[Family]:
        """Return the counts of tokens."""
        if not self._measures:
            return []
        prompt, _, answer = self._totals
        counts = [("echo:tokens_total", {"of": of}, float(n)) for of, n in (("prompt", prompt), ("answer", answer))]
        return [Family("echo:tokens", "counter", "Tokens since the model was loaded", counts)]

    async def health(self, deadline: float) -> None:
        """Return at once: there is no engine to hang."""

    def gpus(self) -> list[Gpu]:
        """Return what the file of the options says."""
        file = self._options.gpu_file
        return [msgspec.json.decode(Path(file).read_bytes(), type=Gpu)] if file else []

    async def sleep(self, level: int) -> Slept:
        """Do as the options say."""
        assert self._sleeper is not None, "the broker was told that it cannot sleep"
        return await self._sleeper.sleep(level)

    async def check(self) -> None:
        """Do as the options say."""
        if self._sleeper is not None:
            await self._sleeper.check()

    async def wake(self) -> int:
        """Do as the options say."""
        assert self._sleeper is not None, "it sleeps"
        return await self._sleeper.wake()

    async def shutdown(self) -> None:
        """Do nothing: there are no processes."""

    def _delta(self, body: ChatBody | CompleteBody, words: list[str], tokens: list[int]) -> Delta:
        logprobs: list[dict[str, Any]] | None = None
        if body.logprobs:
            likely = [{"token": words[token], "logprob": 0.0} for token in tokens]
            logprobs = [{**one, "top": [one] if body.top_logprobs else []} for one in likely]
        return Delta("".join(words[token] for token in tokens), tokens, logprobs)

    def _remember(self, salt: str, prompt: list[str]) -> int:
        """Return how many words of the prompt an earlier one of this salt began with, and keep it."""
        seen = self._seen.setdefault(salt, deque(maxlen=REMEMBERED))
        longest = max((common(prompt, earlier) for earlier in seen), default=0)
        seen.append(prompt)
        return min(longest, len(prompt) - 1)  # as in vLLM, the last token of a prompt is always computed
