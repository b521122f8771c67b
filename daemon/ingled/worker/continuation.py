"""An answer that goes on with a new engine: its text is made by the same detokenizer from all its tokens.

The new engine gets the earlier tokens as part of the prompt and would make text of its own tokens only. Half a
character, text that a stop string holds back, and a stop string that begins in the earlier text need all of them.
"""

from typing import Protocol


class Detokenizer(Protocol):
    """What is used of vLLM's `IncrementalDetokenizer`."""

    output_text: str

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
        """Take tokens in; returns the stop string that they complete."""
        ...

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        """Return the text since the last call."""
        ...


class Continuation:
    """Turns the tokens of the new engine into the text behind what has been sent; a detokenizer itself."""

    def __init__(self, detokenizer: Detokenizer, tokens: list[int], offset: int) -> None:
        """`tokens` are those of the earlier engine, `offset` the bytes of their text that have been sent."""
        self._detokenizer = detokenizer
        self._skip = offset
        self.stop: str | None = None
        """The stop string that has been met."""
        self.count = 0
        """Tokens of the answer, up to the one that completed the stop string."""
        self.update(tokens, False)

    def text(self, tokens: list[int], *, finished: bool, stop_terminated: bool) -> str:
        """Return the text that these tokens add; `finished` and `stop_terminated` are the engine's words."""
        self.update(tokens, stop_terminated)
        return self.get_next_output_text(finished, True)

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
        """Take tokens in, one by one: what comes behind a stop string is not part of the answer."""
        for index, token in enumerate(new_token_ids):
            if self.stop is not None:
                break
            self.stop = self._detokenizer.update([token], stop_terminated and index == len(new_token_ids) - 1)
            self.count += 1
        return self.stop

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        """Return the text since the last call, without what had been sent before."""
        text = self._detokenizer.get_next_output_text(finished or self.stop is not None, delta).encode()
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        return text[skipped:].decode()

    def num_output_tokens(self) -> int:
        """Return how many tokens the answer has."""
        return self.count
