"""length: bounds for prompts and answers, whoever asks (docs/plugins/length.md)."""

from ingled.hooks import Call, Handler, Hook, Message, RequestValue, Stop, Verdict, changed, hookimpl, refuse
from msgspec import Struct

VERSION = "1.0"
HOOK = Hook(order=100, on_error="skip")


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds; 0 is none."""

    prompt_chars: int = 0
    """Most characters of all messages together: a longer prompt is refused."""
    answer_tokens: int = 0
    """Most tokens of an answer: who asks for more, or says nothing, gets so many."""
    answer_chars: int = 0
    """Most characters of an answer: it is stopped there, and its engine with it."""


def check(options: Options) -> None:
    """Raise ValueError where nothing is bounded, or the bounds are none."""
    for name in Options.__struct_fields__:
        if getattr(options, name) < 0:
            raise ValueError(f"{name}: is below 0; 0 is no bound")
    if not any(getattr(options, name) for name in Options.__struct_fields__):
        raise ValueError(f"nothing is bounded: give one of {', '.join(Options.__struct_fields__)}")


@hookimpl
def ingled_request(request: RequestValue, options: Options) -> Verdict | None:
    """Lower the number of tokens that is asked for; vectors have none."""
    most, asked = options.answer_tokens, request["options"].get("max_tokens")
    if not most or request["op"] == "embed" or (asked is not None and asked <= most):
        return None
    sampling = {**request["options"], "max_tokens": most}
    return changed({**request, "options": sampling}, max_tokens=most)


@hookimpl
def ingled_prompt(messages: list[Message], options: Options) -> Verdict | None:
    """Refuse a prompt that is too long."""
    size, most = sum(len(message["content"]) for message in messages), options.prompt_chars
    if most and size > most:
        return refuse(f"the messages have {size} characters, and {most} are allowed here: send less", characters=size)
    return None


@hookimpl
def ingled_chunk(call: Call, options: Options) -> Handler | None:
    """Stop an answer that gets too long."""
    return _Bounded(options.answer_chars) if options.answer_chars else None


class _Bounded:
    held = 0

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def feed(self, text: str) -> str:
        if len(text) > self._left:
            raise Stop(f"the answer has more than {self._most} characters", text[: self._left])
        self._left -= len(text)
        return text

    def flush(self) -> str:
        return ""
