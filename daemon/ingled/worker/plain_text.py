"""The text of an answer that has no stop strings, by the `tokenizers` library's decode stream alone.

vLLM's `FastIncrementalDetokenizer` wraps the same stream in what stop strings need, at twice the price a token. A test
compares the two, token by token.
"""

from collections.abc import Callable
from typing import Any

INVALID_PREFIX = "Invalid prefix encountered"
"""How the error of a decode stream begins whose text has changed behind it; vLLM begins a new stream then."""


class PlainText:
    """Does what such an answer needs of vLLM's `IncrementalDetokenizer`."""

    __slots__ = ("_fresh", "_step", "_text", "_tokenizer")

    def __init__(self, tokenizer: Any, stream: Any, fresh: Callable[[], Any]) -> None:
        """`stream` knows the prompt; `fresh` makes a stream that knows nothing."""
        self._tokenizer = tokenizer
        self._step = stream.step
        self._fresh = fresh
        self._text = ""

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> None:
        """Take tokens in; a last one that ended the answer is no text."""
        for token in new_token_ids[:-1] if stop_terminated else new_token_ids:
            try:
                text = self._step(self._tokenizer, token)
            except (OverflowError, TypeError):  # no token of this tokenizer
                continue
            except Exception as error:
                if not str(error).startswith(INVALID_PREFIX):
                    raise
                self._step = self._fresh().step
                text = self._step(self._tokenizer, token)
            if text:
                self._text += text

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        """Return the text since the last call."""
        text, self._text = self._text, ""
        return text
