"""Medians, spreads, and ratios that are refused."""

import pytest

from bench.spread import NOTHING, ONE_ROUND, TOO_WIDE, Figure, figure, percentile, ratio, ratio_text


def test_a_figure_is_a_median_with_its_range() -> None:
    one = figure([3.0, None, 1.0, 2.0])
    assert one.median == 2.0
    assert one.spread == 1.0
    assert one.text(1) == "2.0 (1.0..3.0)"


def test_a_spread_is_that_of_the_middle_half_once_there_are_enough_rounds() -> None:
    assert Figure((10.0, 11.0, 9.0, 1.0, 100.0)).spread == pytest.approx(0.2)
    assert Figure((10.0, 1.0, 100.0)).spread == pytest.approx(9.9)


def test_one_round_has_no_range_and_none_has_no_figure() -> None:
    assert figure([1234.5]).text() == "1,234"
    assert figure([2.0, 3.0, 9.0]).short(1, 1000) == "3,000.0"
    assert figure([None]).text() == NOTHING


def test_a_spread_around_nothing_is_endless() -> None:
    assert Figure((-1.0, 0.0, 1.0)).spread == float("inf")
    assert Figure((0.0, 0.0)).spread == 0.0


def test_a_ratio_is_made_round_by_round() -> None:
    """Both are slower in the second round: that is the machine's doing, and no difference between them."""
    found = ratio(Figure((90.0, 85.5)), Figure((100.0, 95.0)))
    assert found is not None
    assert found.values == pytest.approx((0.9, 0.9))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((100.0, 80.0), (100.0, 100.0), id="one-varies"),
        pytest.param((100.0, 100.0), (100.0, 80.0), id="other-varies"),
    ],
)
def test_a_ratio_is_refused_when_either_side_varies_too_much(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    assert ratio(Figure(one), Figure(other), 0.15) is None
    assert ratio_text(Figure(one), Figure(other), 0.15) == TOO_WIDE
    assert ratio(Figure(one), Figure(other), 0.3) is not None


def test_a_ratio_needs_two_rounds_and_something_to_divide_by() -> None:
    assert ratio_text(Figure((1.0,)), Figure((1.0,))) == ONE_ROUND
    assert ratio_text(Figure(()), Figure((1.0, 1.0))) == NOTHING
    assert ratio_text(Figure((1.0, 1.0)), Figure((0.0, 0.0))) == TOO_WIDE


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51.0
    assert percentile(values, 0.99) == 100.0
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) is None
