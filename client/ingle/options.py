"""What can be said in a request: the types of its words, for the clients in Python."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

Messages = str | Sequence[Mapping[str, Any]]
"""A conversation: one user's text, or turns such as `{"role": "user", "content": "hi"}`."""


class Around(TypedDict, total=False):
    """Keyword arguments of every request."""

    model: str | None
    """Name of a model; without it the daemon's default."""
    deadline_ms: int | None
    """Give up after that long, from when the daemon took the request."""
    detach: bool
    """Go on when this client leaves; the answer is kept for `attach`."""
    grace_ms: int
    """Wait that long for this client to come back before cancelling."""
    priority: int
    """From -100 to 100; smaller runs earlier, where the model is configured for it."""
    context: Sequence[Mapping[str, str]]
    """What a tool offers beside the messages: items of `kind`, `text` and perhaps `name`, for hooks to use."""
    trace: bool
    """The answer's `hooks` say what each of them was shown and made of it."""


class Options(Around, total=False):
    """Keyword arguments of `chat` and `complete`; what is absent is the model's default."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    stop: str | list[str]
    ignore_eos: bool
    logprobs: bool
    top_logprobs: int
    response_format: dict[str, Any]


Op = Literal["chat", "complete", "embed"]
