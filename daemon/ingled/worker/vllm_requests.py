"""A client's request as vLLM takes it: the prompt in tokens, sampling parameters, and where an answer goes on."""

from copy import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
from ingle.wire.schema import Body, ChatBody, CompleteBody, EmbedBody, Sampling
from vllm import exceptions
from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from ingled.link import Spec
from ingled.worker.continuation import Continuation
from ingled.worker.engine import (
    Delta,
    End,
    EngineDead,
    EngineRefused,
    Request,
    answer_too_long,
    no_such_adapter,
    prompt_too_long,
)
from ingled.worker.vllm_errors import failed, one_line
from ingled.worker.vllm_prompts import Prompts
from ingled.worker.vllm_values import named

_GRACEFUL: type[Exception] | tuple[()] = getattr(exceptions, "GracefulHTTPError", ())  # not in 0.26
_OURS_ALONE = {"skip_clone": True} if "skip_clone" in SamplingParams.__struct_fields__ else {}
"""Nobody else has the parameters: a shallow copy is enough for vLLM. Versions may be without."""
_CLIENT: type[Exception] = getattr(exceptions, "VLLMClientError", VLLMValidationError)  # not in 0.26


@dataclass(slots=True)
class Prepared:
    """What the engine is given."""

    prompt: Any
    """vLLM's `EngineInput`."""
    params: Any
    """vLLM's `SamplingParams`."""
    tokens: int
    """Tokens of the client's prompt."""
    text: Continuation | None = None
    """Makes the text of an answer that goes on: the engine knows only the tokens behind."""
    lora: LoRARequest | None = None
    """The adapter that answers."""
    over: Delta | None = None
    """All that is left of an answer whose end was on the way when its engine died; the engine is not asked."""


class Requests:
    """Prepares requests for one engine, an `AsyncLLM`."""

    def __init__(self, spec: Spec, engine: Any) -> None:
        model = engine.vllm_config.model_config
        self._model = model
        self.prompts = Prompts(model, engine.renderer)
        self._tokenizer = engine.renderer.get_tokenizer()
        self.context = int(model.max_model_len)
        """Longest prompt plus answer, in tokens."""
        self._eos = eos_of(model, self._tokenizer)
        self._model_defaults = model.get_diff_sampling_param()
        self._defaults = {"": self._with(spec.sampling)}
        """By adapter; that of no name is the model itself."""
        self._adapters: dict[str, LoRARequest] = {}

    def _with(self, sampling: dict[str, Any]) -> dict[str, Any]:
        both: dict[str, Any] = self._model_defaults | named(msgspec.convert(sampling, Sampling))
        return both

    def adapt(self, name: str, lora: LoRARequest, sampling: dict[str, Any]) -> None:
        """Let requests for this adapter run with it, which the engine has loaded."""
        self._adapters[name] = lora
        self._defaults[name] = self._with(sampling)

    def lora_of(self, request: Request) -> LoRARequest | None:
        """Return the adapter that is to answer. Raises EngineRefused when it is not there."""
        if not request.adapter:
            return None
        if request.adapter not in self._adapters:
            raise no_such_adapter(request.adapter)
        return self._adapters[request.adapter]

    def forget(self, name: str) -> LoRARequest | None:
        """Let no more requests run with an adapter; returns it, if there is one."""
        return self._adapters.pop(name, None)

    async def prepare(self, request: Request) -> Prepared:
        """Render, and check the length. Raises EngineRefused."""
        return self.prepared(request, await self.prompts.render(_text(request.body), request.salt))

    def prepare_now(self, request: Request) -> Prepared | None:
        """Return what `prepare` does, at once, where the prompt is short. Raises EngineRefused."""
        prompt = self.prompts.now(_text(request.body), request.salt)
        return None if prompt is None else self.prepared(request, prompt)

    def prepared(self, request: Request, prompt: Any) -> Prepared:
        """Return a request whose prompt has been rendered. Raises EngineRefused."""
        body = _text(request.body)
        lora = self.lora_of(request)
        tokens = len(prompt["prompt_token_ids"])
        params = self._sampling(request, body, tokens)
        if request.tokens:
            return self._go_on(request, body, prompt, params)
        return Prepared(prompt, params, tokens, lora=lora)

    def text_of(self, params: Any, prompt: list[int], id: str) -> Any:
        """Return vLLM's detokenizer for an answer."""
        told = SimpleNamespace(sampling_params=params, prompt_token_ids=prompt, prompt_embeds=None, request_id=id)
        return IncrementalDetokenizer.from_new_request(self._tokenizer, told)

    def _go_on(self, request: Request, body: Sampling, prompt: Any, params: Any) -> Prepared:
        """Go on behind the tokens of an engine that died: with them as prompt, and their text made again."""
        before = list(request.tokens)
        if params.structured_outputs is not None or params.presence_penalty or params.frequency_penalty:
            text = "its engine died, and the state of its grammar or penalties died with it"
            raise EngineRefused("worker_died", text, "ask again", fault="worker")
        ids = prompt["prompt_token_ids"]
        text_of = Continuation(self.text_of(params, ids, request.id), before, request.offset)
        over = "stop" if text_of.stop is not None or (before[-1] in self._eos and not body.ignore_eos) else None
        over = over or ("length" if len(before) >= params.max_tokens else None)
        if over is not None:
            rest = text_of.text([], finished=True, stop_terminated=False)
            end = End(over, len(ids), 0, text_of.count, 0.0, text_of.stop)
            return Prepared(prompt, params, len(ids), over=Delta(rest, end=end))
        longer = {key: value for key, value in prompt.items() if key != "prompt"} | {"prompt_token_ids": ids + before}
        shorter = copy(params)
        shorter.max_tokens, shorter.stop = params.max_tokens - len(before), []
        return Prepared(longer, shorter, len(ids), text_of, lora=self.lora_of(request))

    def _sampling(self, request: Request, body: ChatBody | CompleteBody, prompt: int) -> Any:
        """Return what the request wants, over the profile's defaults, over the model's own."""
        if prompt >= self.context:
            raise prompt_too_long(prompt, self.context)
        room = self.context - prompt
        if body.max_tokens is not None and body.max_tokens > room:
            raise answer_too_long(body.max_tokens, prompt, self.context)
        wanted = dict(self._defaults[request.adapter])
        wanted |= named(body)
        wanted["max_tokens"] = min(wanted.get("max_tokens") or room, room)
        if body.logprobs:
            wanted["logprobs"] = body.top_logprobs
        kind = RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY
        try:
            return SamplingParams(**wanted, **_OURS_ALONE, structured_outputs=structure(body), output_kind=kind)
        except Exception as error:
            raise translate(error, body) from error


def _text(body: Body) -> ChatBody | CompleteBody:
    """Return what asks for text. Raises EngineRefused."""
    if isinstance(body, EmbedBody):
        raise EngineRefused("unsupported", "this model makes text, not vectors", "ask another one", at="op")
    return body


def translate(error: Exception, body: Body) -> Exception:
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
        at = f"body.{parameter}" if parameter in body.__struct_fields__ else None
        if at is None and isinstance(body, Sampling) and body.response_format is not None:
            at = "body.response_format"
        if at is None and isinstance(body, EmbedBody) and body.dimensions is not None:
            at = "body.dimensions"
        return EngineRefused("bad_value", one_line(error), "correct the request", at=at)
    return failed(f"{type(error).__name__}: {one_line(error)}")


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
