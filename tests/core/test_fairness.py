"""Whose turn it is: classes, virtual token counters, places that are kept, and those who have waited too long."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from ingled.core import fairness
from ingled.core.accounts import BATCH as BATCH_PRIORITY
from ingled.core.accounts import Class, order
from ingled.core.fairness import ANSWER, KEPT_S, PATIENCE_S, PROMPT, Turns, Waiter

NORMAL, BATCH, INTERACTIVE = 0, BATCH_PRIORITY, -100


@dataclass
class One:
    id: str
    account: str
    priority: int = NORMAL
    arrived: float = 0.0
    run_at: float = 0.0
    made: int = 0


@dataclass
class Engine:
    """A model with so many places, that makes a token for each running request in a step."""

    places: int
    now: float = 0.0
    made: Counter[str] = field(default_factory=Counter)
    count: int = 0

    def __post_init__(self) -> None:
        self.turns = Turns(lambda one: ANSWER * one.made)  # type: ignore[attr-defined]
        self.turns.open(0.0, self.places)

    def ask(self, account: str, priority: int = NORMAL) -> One:
        self.count += 1
        one = One(f"{account}{self.count}", account, priority, self.now)
        self.turns.asked(self.now, one)
        self.turns.wait(one)
        return one

    def give(self) -> list[str]:
        given = []
        while (one := self.turns.next(self.now)) is not None:
            assert isinstance(one, One)
            self.turns.leave(one)
            one.run_at = self.now + 1e-9
            self.turns.run(one)
            given.append(one.id)
        return given

    def end(self, one: Waiter, prompt: int = 0) -> None:
        assert isinstance(one, One)
        self.turns.leave(one)
        self.turns.counters.pay(one.account, prompt, one.made)

    def step(self, length: dict[str, int]) -> None:
        """Make a token for each that has a place, and end those that are long enough."""
        self.now += 1
        for one in list(self.turns.running.values())[: self.places]:
            assert isinstance(one, One)
            one.made += 1
            self.made[one.account] += 1
            if one.made >= length[one.account]:
                self.end(one)


def test_with_places_for_all_nobody_waits() -> None:
    engine = Engine(0)
    ids = [engine.ask(f"u{i % 3}").id for i in range(100)]
    assert sorted(engine.give()) == sorted(ids)


def test_of_one_account_its_own_priority_and_then_arrival_decide() -> None:
    engine = Engine(1)
    a, b, c, d = engine.ask("u", 5), engine.ask("u"), engine.ask("u"), engine.ask("u", 7)
    assert [one.id for one, _ in sorted(engine.turns.positions(), key=lambda told: told[1])] == [b.id, c.id, a.id, d.id]
    assert engine.give() == [b.id, c.id], "one runs, one is with the engine ahead of time"
    engine.end(b)
    assert engine.give() == [a.id]


def test_classes_go_in_order_whoever_came_first() -> None:
    engine = Engine(1)
    late = [engine.ask("b", BATCH), engine.ask("n"), engine.ask("i", INTERACTIVE)]
    assert engine.give() == [late[2].id, late[1].id]
    assert [engine.turns.position(late[0])] == [0]


def test_two_accounts_get_the_same_however_unequal_their_requests_and_their_queues() -> None:
    engine = Engine(8)
    for _ in range(400):
        engine.ask("short")
        engine.ask("short")
        engine.ask("long")
    gaps = []
    for step in range(1, 1201):
        engine.give()
        engine.step({"short": 10, "long": 60})
        if step % 100 == 0:
            gaps.append(abs(engine.made["short"] - engine.made["long"]))
    assert max(gaps) <= 2 * 60 * 9, "the bound of the paper: the longest request times the places"
    assert gaps[-1] <= max(gaps[:3]) + 60, "and it does not grow"
    assert engine.made.total() == 8 * 1200, "no place is empty meanwhile"


def test_who_comes_back_after_a_pause_has_saved_nothing_up() -> None:
    engine = Engine(1)
    for _ in range(100):
        engine.ask("busy")
    for _ in range(50):
        engine.give()
        engine.step({"busy": 10})
    for _ in range(40):
        engine.ask("fresh")
    before = engine.made["busy"]
    for _ in range(200):
        engine.give()
        engine.step({"busy": 10, "fresh": 10})
    assert abs((engine.made["busy"] - before) - engine.made["fresh"]) <= 40


def test_who_comes_when_nobody_waits_is_lifted_to_who_was_served_last() -> None:
    engine = Engine(1)
    engine.end(_given(engine, "busy", 1000))
    _given(engine, "fresh", 0)
    assert engine.turns.counters.of(["busy", "fresh"]) == {"busy": 1000 * ANSWER, "fresh": 1000 * ANSWER}


def _given(engine: Engine, account: str, made: int) -> One:
    one = engine.ask(account)
    assert engine.give() == [one.id]
    one.made = made
    return one


def test_prompts_count_and_answers_count_twice() -> None:
    engine = Engine(4)
    engine.end(_given(engine, "u", 10), prompt=100)
    assert engine.turns.counters.of(["u"]) == {"u": PROMPT * 100 + ANSWER * 10}


def test_a_place_is_kept_from_batch_requests_while_others_ask_now_and_then() -> None:
    engine = Engine(32)
    for _ in range(100):
        engine.ask("b", BATCH)
    assert len(engine.give()) == 32 + 1 + 32 // fairness.AHEAD_PART, "alone, it gets all"
    question = engine.ask("i", INTERACTIVE)
    assert engine.give() == []
    for one in list(engine.turns.running.values())[:6]:
        engine.end(one)
    assert engine.give() == [question.id]
    for one in list(engine.turns.running.values())[:2]:
        engine.end(one)
    assert len(engine.turns.running) == 30
    engine.end(question)
    assert len(engine.give()) == 1
    assert len(engine.turns.running) == 30, "two of 32 are kept"
    assert engine.turns.room(engine.now, INTERACTIVE)
    engine.now += KEPT_S
    assert len(engine.give()) == 37 - 30, "nobody has asked for long"


def test_a_question_that_runs_has_the_place_that_is_kept_and_leaves_no_other_empty() -> None:
    engine = Engine(16)
    first = engine.ask("i", INTERACTIVE)
    for _ in range(40):
        engine.ask("b", BATCH)
    assert len(engine.give()) == 1 + 15, "one of sixteen is the question's"
    batch = [one for one in engine.turns.running.values() if one is not first]
    for one in batch[:3]:
        engine.end(one)
    assert len(engine.give()) == 3
    second, third = engine.ask("i", INTERACTIVE), engine.ask("i", INTERACTIVE)
    assert engine.give() == [second.id, third.id], "ahead of time"
    engine.end(batch[3])
    assert engine.give() == [], "all places are taken"
    for one in (first, second, third):
        engine.end(one)
    assert len(engine.give()) == 1
    assert len(engine.turns.running) == 15, "and one is free for the next"


def test_an_account_that_has_nothing_running_does_not_wait_for_ever() -> None:
    engine = Engine(2)
    late = engine.ask("b", BATCH)
    for _ in range(500):
        engine.ask("n")
    for _ in range(int(PATIENCE_S)):
        assert late.id not in engine.give()
        engine.step({"n": 1})
    engine.give()
    engine.step({"n": 1, "b": 1})
    assert engine.turns.overdue(engine.now, late)
    assert engine.give()[0] == late.id


def test_who_reads_slowly_keeps_no_place() -> None:
    engine = Engine(1)
    slow = [engine.ask("slow") for _ in range(8)]
    for two in (slow[:2], slow[2:4], slow[4:6]):
        assert engine.give() == [one.id for one in two]
        for one in two:
            engine.turns.free(one)
            engine.turns.free(one)
    for one in slow[:4]:
        engine.end(one)
    assert engine.turns.taken == 0
    assert engine.give() == [one.id for one in slow[6:]]


def test_those_whose_worker_died_go_on_before_all_others() -> None:
    engine = Engine(2)
    old = _given(engine, "a", 5)
    engine.turns.leave(old)
    engine.ask("i", INTERACTIVE)
    engine.turns.wait(old)
    assert engine.turns.position(old) == 0
    assert engine.give()[0] == old.id


@pytest.mark.parametrize("seed", range(20))
def test_positions_are_what_happens_when_all_requests_are_alike(seed: int) -> None:
    chance = random.Random(seed)
    engine = Engine(1)
    engine.give()
    for _ in range(30):
        engine.ask(chance.choice("abc"), chance.choice([NORMAL, BATCH, INTERACTIVE, 3]))
        engine.now += 1e-3
    told = {one.id: position for one, position in engine.turns.positions()}
    assert all(engine.turns.position(one) == told[one.id] for one in engine.turns.waiting.values())
    assert len(told) == 30
    first = min(told, key=lambda id: told[id])
    assert (told[first], engine.give()[0]) == (0, first)


def test_leaving_leaves_nothing_behind() -> None:
    engine = Engine(1)
    for i in range(60):
        engine.ask(f"u{i % 4}", (i % 3) * 50 - 50)
    engine.give()
    for one in [*engine.turns.waiting.values(), *engine.turns.running.values()]:
        engine.turns.leave(one)
    turns = engine.turns
    assert not (
        turns.waiting
        or turns.running
        or turns._batch
        or any(turns._classes)
        or turns._waits
        or turns._runs
        or turns.accounts
    )


@pytest.mark.parametrize(
    ("asked", "of", "got"),
    [
        *[(0, "normal", 0), (60, "normal", 60), (0, "batch", 50), (70, "batch", 70), (0, "interactive", -100)],
        *[(-100, "interactive", -200), (49, "interactive", -51), (50, "interactive", 50)],
    ],
)
def test_a_request_is_in_the_class_of_its_account_or_in_a_later_one(asked: int, of: Class, got: int) -> None:
    assert order(asked, of) == got
    assert fairness.rank(got) >= ("interactive", "normal", "batch").index(of)
