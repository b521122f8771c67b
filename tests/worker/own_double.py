"""Run by test_vllm_own.py in a process of its own: the largest batch is asked for of an engine that is played.

Prints what came of each case, as JSON.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from ingled.worker.engine import Delta, End, EngineRefused, Load, Request
from ingled.worker.vllm_own import MOST_S, Own
from ingled.worker.vllm_prompts import TokensBody

SIZES = [1024] * 4
USERS = cast(Any, "those of users")


class Slow:
    """Stands for vLLM, its client and its counter: a token of a prompt takes so long by a clock that it moves."""

    BEGINS = 1000.0

    def __init__(self, token_s: float, fails_at: int = 0) -> None:
        self.token_s, self.fails_at = token_s, fails_at
        self.now = self.BEGINS
        self.metrics: object = None
        self.held = False
        self.prompts: list[int] = []
        self.bodies: list[TokensBody] = []
        self.load = Load()
        self.seen: list[object] = []
        """By whom its steps are counted, while it runs."""

    @property
    def given(self) -> int:
        """Return how many requests it has."""
        return len(self.prompts)

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        """Begin nothing until it is told to."""
        assert (mode, clear_cache) == ("keep", False)
        self.held, self.prompts = True, []

    async def resume_generation(self) -> None:
        """Go on."""
        self.held = False

    def run(self, request: Request, news: Callable[[], None]) -> "Answer":
        """Take a request."""
        assert isinstance(request.body, TokensBody)
        if self.fails_at and self.given + 1 == self.fails_at:
            raise EngineRefused("bad_value", "no", "no")
        self.prompts.append(len(request.body.ids))
        self.bodies.append(request.body)
        answer = Answer()
        asyncio.get_running_loop().call_soon(self._step, request.body, answer, news)
        return answer

    def _step(self, body: TokensBody, answer: "Answer", news: Callable[[], None]) -> None:
        if answer.aborted:
            return
        if self.held:
            asyncio.get_running_loop().call_later(0.001, self._step, body, answer, news)
            return
        self.now += self.token_s * len(body.ids)
        self.seen.append(self.metrics)
        self.load = Load(
            prompt_tokens=self.load.prompt_tokens + len(body.ids),
            completion_tokens=self.load.completion_tokens + (body.max_tokens or 0),
        )
        answer.whole = Delta(end=End("length", 0, 0, 0))
        news()

    def load_now(self) -> Load:
        """Return what it has counted."""
        return self.load

    def no_larger(self, load: Load) -> None:
        """Do nothing."""


class Answer:
    """What comes of a request."""

    whole: Delta | None = None
    aborted = False

    def take(self) -> Delta | None:
        """Return it, once it has been computed."""
        return self.whole

    def abort(self) -> None:
        """Have no more of it computed."""
        self.aborted = True


def largest(seconds: float, fails_at: int = 0) -> dict[str, Any]:
    """Ask for it where all of it would take so many seconds."""
    slow = Slow(seconds / sum(SIZES), fails_at)
    own = Own(slow, cast(Any, slow), cast(Any, slow), lambda: slow.now)
    own.measure(USERS)
    try:
        ran = asyncio.run(own.largest(SIZES, [5, 6, 7]))
    except EngineRefused:
        ran = None
    return {
        "ran": ran,
        "held": slow.held,
        "prompts": slow.prompts,
        "answers": [body.max_tokens for body in slow.bodies],
        "took": slow.now - Slow.BEGINS,
        "unseen": own.without(slow.load) == Load() and slow.load != Load() and set(slow.seen) == {None},
        "counts again": slow.metrics == USERS,
    }


if __name__ == "__main__":
    found = {"in time": largest(MOST_S), "too long": largest(1.01 * MOST_S), "fails": largest(0.0, fails_at=3)}
    print(json.dumps(found), flush=True)
