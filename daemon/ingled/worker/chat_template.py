"""A model's chat template by itself: the text that vLLM's renderer makes of a conversation, for a third of the cost.

vLLM parses each message for images and tools, and looks the template, its format and its variables up at every request.
A conversation of plain texts needs none of that: the template, compiled by `transformers` as vLLM has it compiled, is
given the messages in the same form. Before it is used, both ways have to make the same of `PROBES`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ingle.wire.schema import ChatMessage

from ingled.worker.vllm_names import TEMPLATE_USES, absent

log = logging.getLogger(__name__)

Chat = Sequence[ChatMessage]
Template = Callable[[Chat], str | None]
"""Makes the text of messages whose contents are texts; None: vLLM has to say what becomes of them, an error perhaps."""

_SYSTEM, _USER = ChatMessage("system", "Be brief."), ChatMessage("user", " Hi!\n\n{{ x }} <|im_end|></s> äöü 😀 ")
_ASSISTANT, _NAMED = ChatMessage("assistant", "<think>\nso\n</think>\n\nYes. "), ChatMessage("user", "and?", "ann")
PROBES = (
    (_USER,),
    (_SYSTEM, _USER),
    (_USER, _ASSISTANT, _NAMED),
    (_SYSTEM, _USER, _ASSISTANT, _USER, _ASSISTANT, _NAMED),
    (ChatMessage("user", ""),),
    (_USER, _ASSISTANT),
)
"""What both ways have to make the same text of."""


def direct(model: Any, renderer: Any, by_vllm: Template) -> Template | None:
    """Return the template of the model of vLLM's renderer; None where it is not known to do the same.

    `by_vllm` makes the text as vLLM does, or raises.
    """
    if lacking := absent(TEMPLATE_USES):
        log.info("chat templates are applied by vLLM: it has not %s", ", ".join(lacking))
        return None
    if model.enable_prompt_embeds:  # texts may hold what vLLM refuses
        return None
    try:
        template = _compiled(model, renderer.tokenizer)
    except Exception as error:
        log.info("chat templates are applied by vLLM: %s", error)
        return None
    if template is None:
        return None
    if all(same(template, by_vllm, messages) for messages in PROBES):
        return template
    log.info("chat templates are applied by vLLM, which makes something else of this one")
    return None


def same(template: Template, by_vllm: Template, chat: Chat) -> bool:
    """Return whether both make the same of a conversation, where the template makes anything of it."""
    text = template(chat)
    try:
        return text is None or text == by_vllm(chat)
    except Exception:
        return False


def _compiled(model: Any, tokenizer: Any) -> Template | None:
    from transformers.utils.chat_template_utils import _compile_jinja_template
    from vllm.renderers import chat_utils
    from vllm.renderers.hf import resolve_chat_template, resolve_chat_template_content_format

    source = resolve_chat_template(tokenizer, None, None, model_config=model)
    if not isinstance(source, str):
        return None
    in_parts = resolve_chat_template_content_format(None, None, "auto", tokenizer, model_config=model) == "openai"
    render = _compile_jinja_template(source).render
    known = {**tokenizer.special_tokens_map, "tools": None, "documents": None, "add_generation_prompt": True}
    stripped: str = chat_utils._CLAUDE_CODE_BILLING_HEADER

    def text(messages: Chat) -> str | None:
        chat = []
        for one in messages:
            content: Any = one.content
            if not isinstance(content, str) or content.startswith(stripped):
                return None
            if in_parts:
                content = [{"type": "text", "text": content}]
            chat.append({"role": one.role, "content": content} | ({} if one.name is None else {"name": one.name}))
        try:
            return str(render(known, messages=chat))
        except Exception:  # the template refuses them: vLLM says so in its words
            return None

    return text
