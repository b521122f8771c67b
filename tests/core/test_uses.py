"""How often models are asked: what was asked long ago counts less, and long is many requests, not many hours."""

from math import inf

import pytest
from ingled.core.uses import LEAST, MEMORY, Uses

DAY_S = 86400.0


def asked(*names: str, pause: float = 20.0) -> Uses:
    uses = Uses()
    for number, name in enumerate(names):
        uses.add(number * pause, name)
    return uses


def test_a_model_has_the_part_of_what_was_asked_that_was_for_it() -> None:
    uses = asked(*"aab" * 100)
    assert uses.popularity("a") == pytest.approx(2 / 3, rel=0.01)
    assert uses.popularity("b") == pytest.approx(1 / 3, rel=0.01)
    assert uses.popularity("c") == 0
    assert set(uses.known) == {"a", "b"}


def test_it_is_the_same_at_any_pace_and_after_a_night() -> None:
    fast, slow = asked(*"aab" * 100, pause=0.1), asked(*"aab" * 100, pause=DAY_S)
    assert fast.left() == slow.left()
    assert [fast.popularity(name) for name in "ab"] == [slow.popularity(name) for name in "ab"]


def test_a_use_fades_as_others_are_asked() -> None:
    uses = asked("a", *"b" * MEMORY)
    assert uses.left()["a"] == pytest.approx(0.368, rel=0.01)
    assert uses.popularity("a") < uses.popularity("b") / 100


def test_what_nobody_asks_any_more_is_forgotten() -> None:
    uses = asked("a", *"b" * (6 * MEMORY))
    assert set(uses.known) == {"b"}
    assert min(uses.left().values()) >= LEAST


def test_the_next_use_is_expected_by_a_models_part_and_by_how_fast_requests_come() -> None:
    uses = asked(*"aaab" * 100, pause=30.0)
    last = 399 * 30.0
    assert uses.expected_s(last, "a") == pytest.approx(40, rel=0.01)
    assert uses.expected_s(last, "b") == pytest.approx(120, rel=0.01)
    assert uses.expected_s(last, "c") == inf
    assert uses.expected_s(last + DAY_S, "a") == pytest.approx(DAY_S * 4 / 3, rel=0.01), "nobody has asked for a day"


def test_of_the_first_request_it_is_known_how_long_ago_it_was() -> None:
    uses = asked("a")
    assert uses.expected_s(60.0, "a") == 60


def test_it_goes_on_from_what_was_known() -> None:
    before = asked(*"aaab" * 100, pause=30.0)
    after = Uses()
    after.go_on(before.left(), before.gap)
    assert after.popularity("a") == pytest.approx(before.popularity("a"))
    assert after.expected_s(5.0, "b") == pytest.approx(120, rel=0.01)
    after.add(5.0, "b")
    after.add(35.0, "b")
    assert after.gap == pytest.approx(30), "the time between two daemons is not taken for a pause"
    assert after.popularity("b") > before.popularity("b")


def test_how_long_it_was_quiet_is_learned_where_it_was_not_written_down() -> None:
    uses = Uses()
    uses.go_on({"a": 200.0}, 0.0)
    uses.add(0.0, "a")
    uses.add(50.0, "a")
    assert uses.gap == 50
