"""What the echo engine answers, computed from the prompt alone. PURE."""

import math
import re
from array import array
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from ingle.wire.schema import Body, ChatBody, CompleteBody, EmbedBody, Sampling

from ingled.worker.engine import EngineRefused, answer_too_long, prompt_too_long

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def answer_to(
    body: ChatBody | CompleteBody, prompt: int, context: int, tokens: int | None, defaults: Sampling
) -> tuple[list[str], str, str | None]:
    """Return the whole answer to a prompt of so many tokens, as tokens, its finish and its stop string. Raises
    EngineRefused. `tokens`: how long it is, if not as long as the question.
    """
    if prompt >= context:
        raise prompt_too_long(prompt, context)
    room = context - prompt
    if body.max_tokens is not None and body.max_tokens > room:
        raise answer_too_long(body.max_tokens, prompt, context)
    if body.response_format is not None and body.response_format.type != "text":
        raise EngineRefused(
            "unsupported",
            "the echo engine cannot write JSON",
            "leave response_format out",
            at="body.response_format",
        )
    source = words_of(question(body)) or ["…"]
    most = body.max_tokens or min(defaults.max_tokens or room, room)
    length = most if body.ignore_eos else (tokens or len(source))
    finish = "length" if length >= most and (length > most or body.ignore_eos) else "stop"
    last = len(source) - 1
    spaced = [f"{word} " if index == last and not word[-1].isspace() else word for index, word in enumerate(source)]
    words = list(islice(cycle(spaced), min(length, most)))
    words[-1] = words[-1].rstrip() or words[-1]
    return _stopped(words, finish, body.stop if body.stop is not None else defaults.stop)


def letters(text: str, size: int) -> "array[float]":
    """Return a vector of length one that tells of which letters a text has how many."""
    counts = [text.lower().count(letter) for letter in LETTERS[:size]] + [0] * (size - len(LETTERS))
    length = math.sqrt(sum(count * count for count in counts)) or 1.0
    return array("f", [count / length for count in counts])


def question(body: ChatBody | CompleteBody) -> str:
    """Return the text that is echoed."""
    if isinstance(body, CompleteBody):
        return body.prompt
    asked = [message for message in body.messages if message.role == "user"] or body.messages
    return _text(asked[-1].content)


def prompt_words(body: Body) -> Iterator[str]:
    """Yield the tokens of the prompt: the words, and the role before each message of a chat."""
    if isinstance(body, CompleteBody):
        yield from words_of(body.prompt)
        return
    if isinstance(body, EmbedBody):
        for text in body.input:
            yield from words_of(text)
        return
    for message in body.messages:
        yield f"<{message.role}>"
        yield from words_of(_text(message.content))


def words_of(text: str) -> list[str]:
    """Return the words of a text, each with the space that follows it; together they are the text."""
    return re.findall(r"^\s+|\S+\s*", text)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def common(one: list[str], other: list[str]) -> int:
    """Return with how many of the same words both begin."""
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


def _stopped(words: list[str], finish: str, stop: str | list[str] | None) -> tuple[list[str], str, str | None]:
    """Cut the answer before the first stop string in it."""
    text = "".join(words)
    stops = [stop] if isinstance(stop, str) else stop or []
    met = min(((text.find(one), one) for one in stops if one in text), default=None)
    if met is None:
        return words, finish, None
    at, one = met
    kept, size = [], 0
    for word in words:
        kept.append(word[: max(0, at - size)])
        size += len(word)
        if size >= at + len(one):
            break
    return kept, "stop", one
