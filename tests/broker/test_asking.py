"""Questions to an engine that has not started: it starts, or it does not, or it takes too long."""

import asyncio
from collections.abc import Callable
from typing import cast

from ingled import link
from ingled.broker.asking import Asking
from ingled.broker.nursery_link import NurseryLink

SPEC = link.Spec("a", "/a", "echo")


class Nursery:
    """The part of `NurseryLink` that is asked: it answers once it is there."""

    def __init__(self) -> None:
        self.there = False
        self.on_loading: Callable[[int], None] = lambda percent: None

    def plan(self, spec: link.Spec, answer: Callable[[link.Planned], None]) -> bool:
        if self.there:
            answer(link.Planned(1, estimate=link.Estimate(weights=7)))
        return self.there


def asking(nursery: Nursery, wait_s: float = 600.0) -> Asking:
    return Asking(asyncio.get_running_loop(), cast(NurseryLink, nursery), wait_s)


def test_a_question_waits_and_is_told_how_far_the_start_is() -> None:
    async def run() -> None:
        nursery, answers, told = Nursery(), list[link.Planned](), list[int]()
        questions = asking(nursery)
        questions.ask(SPEC, answers.append, told.append)
        nursery.on_loading(30)
        nursery.on_loading(30)
        nursery.on_loading(70)
        assert (answers, told) == ([], [0, 30, 70])
        nursery.there = True
        questions.ready()
        questions.ready()
        assert [one.estimate and one.estimate.weights for one in answers] == [7]
        questions.ask(SPEC, answers.append, told.append)
        assert len(answers) == 2 and told == [0, 30, 70], "it answers at once now"

    asyncio.run(run())


def test_an_engine_that_does_not_start_is_not_waited_for() -> None:
    async def run() -> None:
        nursery, answers = Nursery(), list[link.Planned]()
        questions = asking(nursery)
        questions.ask(SPEC, answers.append, lambda percent: None)
        questions.failed("no vLLM")
        questions.ask(SPEC, answers.append, lambda percent: None)
        why = "the engine does not start (no vLLM): this is the least that its headers tell"
        assert [one.note for one in answers] == [why, why]
        nursery.on_loading(10)
        questions.ask(SPEC, answers.append, lambda percent: None)
        assert len(answers) == 2, "it is tried again"

    asyncio.run(run())


def test_it_is_not_waited_for_for_ever() -> None:
    async def run() -> None:
        answered: asyncio.Future[link.Planned] = asyncio.get_running_loop().create_future()
        asking(Nursery(), 0.01).ask(SPEC, answered.set_result, lambda percent: None)
        found = await asyncio.wait_for(answered, 60)
        assert found.note == "the engine has not started in 0.01 s: this is the least that its headers tell"

    asyncio.run(run())
