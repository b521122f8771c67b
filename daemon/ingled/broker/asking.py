"""Asks the engine what a model would take: while it starts, the question waits, and who asks is told how far it is."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from ingled import link
from ingled.broker.nursery_link import NurseryLink

WAIT_S = 120.0
"""Seconds that a question waits for the engine: it starts within 20, on a busy machine too."""
LEAST = "this is the least that its headers tell"

Planned = Callable[[link.Planned], None]
Tell = Callable[[int], None]
"""Told the percent of the engine's start."""


@dataclass(frozen=True, slots=True)
class _Question:
    spec: link.Spec
    answer: Planned
    tell: Tell
    late: asyncio.TimerHandle


class Asking:
    """The questions that wait for an engine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, nursery: NurseryLink, wait_s: float = WAIT_S) -> None:
        """`nursery` is the link to the one that answers."""
        self._loop, self._nursery, self._wait_s = loop, nursery, wait_s
        self._waiting: dict[int, _Question] = {}
        self._numbers = itertools.count()
        self._percent = 0
        self._why_not = ""
        nursery.on_loading = self.loading

    def ask(self, spec: link.Spec, answer: Planned, tell: Tell) -> None:
        """Have `answer` called once: with what the engine says, or with a note why it says nothing."""
        if self._nursery.plan(spec, answer):
            return
        if self._why_not:
            answer(link.Planned(0, note=f"the engine does not start ({self._why_not}): {LEAST}"))
            return
        number = next(self._numbers)
        late = self._loop.call_later(self._wait_s, self._give_up, number)
        self._waiting[number] = _Question(spec, answer, tell, late)
        tell(self._percent)

    def loading(self, percent: int) -> None:
        """The nursery says how far its start is."""
        self._why_not = ""
        if percent != self._percent:
            self._percent = percent
            for question in list(self._waiting.values()):
                question.tell(percent)

    def ready(self) -> None:
        """The nursery answers from now on."""
        self._percent, self._why_not = 0, ""
        for question in self._taken():
            if not self._nursery.plan(question.spec, question.answer):
                question.answer(link.Planned(0, note=f"the engine has gone: {LEAST}"))

    def failed(self, why: str) -> None:
        """There is no nursery, for now."""
        self._percent, self._why_not = 0, why
        for question in self._taken():
            question.answer(link.Planned(0, note=f"the engine does not start ({why}): {LEAST}"))

    def _give_up(self, number: int) -> None:
        question = self._waiting.pop(number)
        question.answer(link.Planned(0, note=f"the engine has not started in {self._wait_s:g} s: {LEAST}"))

    def _taken(self) -> list[_Question]:
        """Return all questions: none of them waits any longer."""
        questions = list(self._waiting.values())
        self._waiting.clear()
        for question in questions:
            question.late.cancel()
        return questions
