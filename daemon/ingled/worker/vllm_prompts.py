"""Prompts for vLLM: a conversation or a text becomes tokens, by vLLM's renderer.

It hands each to threads of its own: of 64 requests that come together, the first was ready when nearly all were. A
short prompt costs less than the way to a thread and back, and is rendered and tokenised at once, where this vLLM lets
two threads use a tokenizer (`vllm_names.NOW_USES`). What is long would keep the streams waiting meanwhile.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from ingle.wire.schema import ChatBody, ChatMessage, CompleteBody
from tokenizers import Tokenizer
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.renderers.params import ChatParams

from ingled.worker import chat_template
from ingled.worker.engine import EngineRefused
from ingled.worker.vllm_errors import one_line, unrendered_chat
from ingled.worker.vllm_names import NOW_USES, absent

log = logging.getLogger(__name__)

SHORT = 2048
"""Most characters of a prompt that is made at once: about a millisecond of work."""
FEW = 16
"""Most messages of it."""
PROBES = (
    "",
    " ",
    "Hello, world!",
    "  two\n\nlines\t ",
    "THE OLD KEEPER",
    "äöü € 😀 日本語 \u200d\ufeff e\u0301",
    "<s></s><|im_start|>user\n<|endoftext|><bos>[INST]",
)
"""What both ways have to make the same tokens of."""


TOKENS = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
TEXT = ChatParams(chat_template_kwargs={"add_generation_prompt": True, "tokenize": False})
"""What a chat template is to make."""


class TokensBody(CompleteBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A prompt that is tokens already, which no client can send; `prompt` stands for nothing."""

    ids: list[int]


Encode = Callable[[str, bool, str], Any]
"""Makes an `EngineInput` of a text, with special tokens or not, and a salt."""


class Prompts:
    """Makes prompts for one engine, an `AsyncLLM`."""

    def __init__(self, model: Any, renderer: Any) -> None:
        self._model, self._renderer = model, renderer
        self._cmpl = replace(renderer.default_cmpl_tok_params, max_total_tokens=None)
        # No limit here: vLLM would count no further than it, and the refusal names both numbers.
        self._chat = replace(renderer.default_chat_tok_params, max_total_tokens=None)
        self._fast = _fast(model, renderer)
        self._template = None if self._fast is None else chat_template.direct(model, renderer, self._by_vllm)

    async def render(self, body: ChatBody | CompleteBody, salt: str) -> Any:
        """Return the prompt as vLLM's `EngineInput`, however long it is. Raises EngineRefused."""
        if isinstance(body, CompleteBody):
            prompt = body.ids if isinstance(body, TokensBody) else body.prompt
            return (await self.render_texts([prompt], salt, "body.prompt"))[0]
        try:
            chat, extras = [_messages(body.messages)], _extras(salt)
            _, prompts = await self._renderer.render_chat_async(chat, TOKENS, self._chat, prompt_extras=extras)
        except Exception as error:
            raise unrendered_chat(error) from error
        return prompts[0]

    async def render_texts(self, texts: Sequence[str | list[int]], salt: str, at: str) -> list[Any]:
        """Return texts, or their tokens, as vLLM's `EngineInput`s, however long. Raises EngineRefused, for `at`."""
        try:
            parsed = [parse_model_prompt(self._model, text) for text in texts]
            return list(await self._renderer.render_cmpl_async(parsed, self._cmpl, prompt_extras=_extras(salt)))
        except Exception as error:
            raise _unrendered(error, at) from error

    def now(self, body: ChatBody | CompleteBody, salt: str) -> Any | None:
        """Return the prompt as `render` does, at once; None: it has to be rendered. Raises EngineRefused."""
        if self._fast is None or not _short(body):
            return None
        if isinstance(body, CompleteBody):
            text = body.prompt
        elif (found := self._text(body.messages)) is not None and len(found) <= 2 * SHORT:
            text = found
        else:  # a template may say much beside
            return None
        how = self._cmpl if isinstance(body, CompleteBody) else self._chat
        try:
            return self._fast(text, how.add_special_tokens, salt)
        except Exception as error:
            raise _unrendered(error, "body") from error

    def _text(self, messages: Sequence[ChatMessage]) -> str | None:
        """Return what the chat template makes of messages; None: their prompt is more than a text."""
        if self._template is not None and (text := self._template(messages)) is not None:
            return text
        try:
            return self._by_vllm(messages)
        except Exception as error:
            raise unrendered_chat(error) from error

    def _by_vllm(self, messages: Sequence[ChatMessage]) -> str | None:
        """Return the text that vLLM makes of messages; None when that is not all there is. Raises what it raises."""
        _, prompt = self._renderer.render_messages(_messages(messages), TEXT)
        return str(prompt["prompt"]) if prompt.keys() == {"prompt"} else None


def _fast(model: Any, renderer: Any) -> Encode | None:
    """Return what tokenises beside vLLM's threads; None where that is not known to be the same, or safe."""
    if lacking := absent(NOW_USES):
        log.info("prompts are rendered by vLLM's threads: it has not %s", ", ".join(lacking))
        return None
    from vllm.inputs.engine import tokens_input
    from vllm.renderers.hf import HfRenderer
    from vllm.tokenizers.hf import ThreadSafeHFTokenizerMixin

    tokenizer = renderer.tokenizer
    if type(renderer) is not HfRenderer or renderer.mm_processor is not None or model.is_encoder_decoder:
        return None
    if not isinstance(tokenizer, ThreadSafeHFTokenizerMixin) or renderer.default_cmpl_tok_params.do_lower_case:
        return None
    fast = getattr(tokenizer, "_tokenizer", None)  # vLLM's calls go to copies of it: nobody changes it
    if not isinstance(fast, Tokenizer) or fast.truncation or fast.padding or fast.encode_special_tokens:
        return None
    for special in (True, False):
        for text in PROBES:
            if fast.encode(text, add_special_tokens=special).ids != _by_vllm(tokenizer, text, special):
                return None
    encode = fast.encode

    def encoded(text: str, special: bool, salt: str) -> Any:
        return tokens_input(encode(text, add_special_tokens=special).ids, cache_salt=salt or None)

    return encoded


def _by_vllm(tokenizer: Any, text: str, special: bool) -> list[int]:
    return list(tokenizer(text, truncation=False, add_special_tokens=special)["input_ids"])


def _short(body: ChatBody | CompleteBody) -> bool:
    if isinstance(body, TokensBody):
        return False
    if isinstance(body, CompleteBody):
        return len(body.prompt) <= SHORT
    if len(body.messages) > FEW:
        return False
    size = 0
    for message in body.messages:
        if not isinstance(message.content, str):
            return False
        size += len(message.content)
    return size <= SHORT


def _messages(messages: Sequence[ChatMessage]) -> list[Any]:
    """Return a conversation as vLLM takes it."""
    chat = [msgspec.to_builtins(message) for message in messages]
    for message in chat:
        if message["name"] is None:
            del message["name"]
    return chat


def _extras(salt: str) -> dict[str, str] | None:
    return {"cache_salt": salt} if salt else None


def _unrendered(error: Exception, at: str) -> EngineRefused:
    return EngineRefused("bad_value", one_line(error), "correct the text", at=at)
