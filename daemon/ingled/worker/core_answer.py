"""An answer that the engine core makes: its outputs collect here until it is taken; its text is made by vLLM.

The text is made by the same detokenizer that `AsyncLLM` uses, or by one that makes the same and costs less (`plain`).
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tokenizers.decoders import DecodeStream
from vllm.v1.engine import FinishReason
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

from ingled.worker.engine import Delta, End, Request
from ingled.worker.plain_text import PlainText
from ingled.worker.vllm_errors import failed
from ingled.worker.vllm_requests import Prepared, translate
from ingled.worker.vllm_values import readable


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
        "_count",
        "_drop",
        "_errors",
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

    def __init__(self, drop: Callable[["CoreAnswer"], None], request: Request, news: Callable[[], None]) -> None:
        """`drop(answer)`: the core's outputs of it are wanted no more, and it is to make none."""
        self.news = news
        self.id: str | None = None
        """The core's name of the request, while it runs there."""
        self._drop = drop
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
        self._errors: list[Exception] = []
        """At most one, forgotten when it is raised: its traceback leads back here."""

    # ------------------------------------------------------------ what the worker asks

    def take(self) -> Delta | None:
        """Return what has come since the last call; the text of it is made here, once for all its tokens."""
        finish, tokens = self._finish, self._tokens
        if finish is None and (not tokens or not self._request.stream):
            if self._errors:
                raise self._errors.pop()
            return self._ready
        if self._errors:
            raise self._errors.pop()
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
            self._drop(self)
            self._finish = "abort"
            self.news()

    def close(self) -> None:
        """Take no more of it: the core makes none for nobody."""
        self._aborted = True
        if self.id is not None:
            self._drop(self)

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
                self._errors = [failed("EngineCore ended the answer with an error")]
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
        return self._finish is not None or bool(self._errors)

    def ready(self, delta: Delta) -> None:
        """Let this be the answer; the core is not asked."""
        self._ready = delta
        self.news()

    def fail(self, error: Exception) -> None:
        """Let the next `take` raise."""
        self._errors = [translate(error, self._request.body)]
        # In a turn of its own: the frames of this one have the error, and its traceback would have them.
        asyncio.get_running_loop().call_soon(self.news)
