"""How deep a model sleeps, or that it goes out: by the memory of the machine, and by when it is expected next."""

from math import inf

from ingled.core.ladder import DEEP, EXPECTED_S, LIGHT, Sleep, deep_enough, level_for, who_may_sleep

ABLE = Sleep("", weights=100, left=5, wake_s={LIGHT: 0.5})
SOON = 60.0


def test_a_model_that_cannot_sleep_goes_out() -> None:
    assert level_for(Sleep("it is on a CPU"), SOON, 1000) == 0
    assert level_for(Sleep(), SOON, 1000) == 0, "its engine has not said that it can"


def test_where_the_machine_has_memory_the_weights_stay_there() -> None:
    assert level_for(ABLE, SOON, 100) == LIGHT
    assert level_for(ABLE, SOON, 99) == DEEP
    assert level_for(ABLE, SOON, None) == DEEP
    assert (deep_enough(ABLE, 100), deep_enough(ABLE, 0)) == (LIGHT, DEEP)


def test_what_is_not_expected_soon_goes_out() -> None:
    assert level_for(ABLE, 0.99 * EXPECTED_S, 1000) == LIGHT
    assert level_for(ABLE, 1.01 * EXPECTED_S, 1000) == 0
    assert level_for(ABLE, inf, 1000) == 0


def test_waking_takes_as_long_as_it_was_seen_to() -> None:
    assert ABLE.back_s(LIGHT) == 0.5
    assert ABLE.back_s(DEEP) > 0.5, "it is guessed, while it was not seen"


def test_no_more_is_kept_asleep_than_there_is_room_for() -> None:
    assert who_may_sleep({"a": 5, "b": 3, "c": 4}, 7) == {"b", "c"}
    assert who_may_sleep({"a": 5}, 4) == set()
    assert who_may_sleep({}, 10) == set()
