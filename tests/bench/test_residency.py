"""The replay of traces: its rows, and that nobody beats who knows the future."""

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from ingled.core.eviction import CheapestBack
from ingled.core.placement import Terms

from bench import sweep
from bench.clairvoyant import ToldPopularities
from bench.foresight import knowing, least
from bench.ratio import Ratio, ratio
from bench.replay import in_the_core
from bench.residency import main
from bench.sweep import grid, words
from bench.traces import HARD, PLAIN, RECORDED, REQUESTS, Asked, Trace, made, read, write
from bench.virtual_time import World


def test_our_policy_loads_less_than_lru_and_no_less_than_is_possible() -> None:
    lines: list[str] = []
    figures = main(["--hard", "--seeds", "1", "2"], lines.append)
    assert figures["ours_s"] <= figures["lru_s"]
    assert figures["at_once_least_s"] <= figures["at_once_ours_s"] <= figures["at_once_lru_s"]
    assert figures["at_once_to_least"] <= 1.5
    assert any(line.startswith("to_lru: ") for line in lines)


def test_on_the_recorded_zipf_trace_the_core_loads_for_at_most_0_8_of_lru_and_1_5_of_the_least_possible() -> None:
    """All in virtual time: the same on every machine."""
    figures = main([], lambda line: None)
    assert figures["to_lru"] <= 0.8
    assert figures["at_once_least_s"] < figures["ours_s"] <= 1.5 * figures["at_once_least_s"]
    assert figures["ours_wait_mean"] < figures["lru_wait_mean"]


def test_a_trace_is_read_as_it_was_written_and_the_recorded_one_is_what_its_head_says() -> None:
    trace = made(3, PLAIN)
    again = read(write(trace, "for a test"))
    assert (again.models, again.budget) == (trace.models, trace.budget)
    assert [one.model for one in again.requests] == [one.model for one in trace.requests]
    assert max(abs(a.at - b.at) for a, b in zip(trace.requests, again.requests, strict=True)) < 0.001
    recorded = read(RECORDED.read_text())
    asked = Counter(one.model for one in recorded.requests)
    assert len(recorded.requests) == REQUESTS
    whole = sum(recorded.odds[0].values())
    for rank, (name, odds) in enumerate(sorted(recorded.odds[0].items(), key=lambda one: -one[1]), 1):
        assert odds == pytest.approx(1 / rank, abs=1e-5)
        assert asked[name] == pytest.approx(REQUESTS * odds / whole, abs=3 * (REQUESTS * odds / whole) ** 0.5)
    with pytest.raises(ValueError, match="not a line of a trace: 'soon m1'"):
        read("soon m1\n")


def test_the_grid_has_all_settings_once_and_among_them_that_of_the_recorded_trace() -> None:
    settings = [setting for _, setting in grid()]
    assert len(settings) == len(set(settings)) == len(set(map(words, settings))) == 80
    assert PLAIN in settings


def test_a_sweep_goes_on_from_the_points_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [replace(PLAIN, models=20, share=Fraction(3, 4), bursts=bursts) for bursts in (False, True)]
    monkeypatch.setattr(sweep, "grid", lambda: (("a table", setting) for setting in some))
    file, lines = tmp_path / "points.json", list[str]()
    had = ["9", "0.500 (0.500 to 0.500)", "-", "-", "-", "1.0, 2", "0.5, 1"]
    file.write_text(json.dumps({"seeds": [1], "points": {words(some[0]): had}}))
    figures = sweep.swept([1], lines.append, file)
    assert figures[words(some[0])] == 0.5 != figures[words(some[1])]
    assert any("0.500 (0.500 to 0.500)" in line for line in lines)
    kept = json.loads(file.read_text())["points"]
    assert kept[words(some[0])] == had and set(kept) == set(map(words, some))


def test_told_popularities_are_used_instead_of_learned_ones() -> None:
    """`often` was asked once and `seldom` three times when `new` comes: what has been seen says the contrary."""
    terms = {name: Terms(need=1, reload_s=5) for name in ("often", "seldom", "new")}
    odds = {"often": 0.6, "seldom": 0.3, "new": 0.1}
    names = ["often", "seldom", "seldom", "seldom", "new"]
    trace = Trace(terms, 2, [Asked(60.0 * at, name) for at, name in enumerate([*names, "often"])], [odds] * 6)
    assert in_the_core(trace, CheapestBack()).loads == {"often": 2, "seldom": 1, "new": 1}
    assert in_the_core(trace, ToldPopularities(trace)).loads == {"often": 1, "seldom": 1, "new": 1}


def test_a_ratio_of_traces_that_are_alike_is_certain_and_of_others_is_not() -> None:
    assert ratio([1, 2, 3], [2, 4, 6]) == Ratio(0.5, 0.5, 0.5)
    apart = ratio([1, 4], [2, 4])
    assert (apart.low, apart.all, apart.high) == (0.5, 5 / 6, 1.0)


def test_in_virtual_time_requests_wait_together_for_a_load_and_one_load_for_the_other() -> None:
    world = World({"a": Terms(need=2, reload_s=10), "b": Terms(need=2, reload_s=20)}, 3)
    asked = [Asked(0, "a", 4), Asked(1, "b"), Asked(2, "a", 1), Asked(3, "b")]
    told = world.replay(asked)
    assert told.loads == {"a": 1, "b": 1}
    assert told.loading_s == 30
    assert sorted(told.waits) == [8, 10, 31, 33], "b is loaded when a, which is ready after 10 s, is idle after 14"


def test_who_knows_what_is_popular_keeps_it_and_is_not_better_than_who_knows_the_future() -> None:
    terms = {"often": Terms(need=1, reload_s=5), "seldom": Terms(need=1, reload_s=5), "big": Terms(need=2, reload_s=5)}
    requests = [Asked(float(at), name) for at, name in enumerate(["often", "seldom", "big", "often"])]
    odds = {"often": 0.6, "seldom": 0.3, "big": 0.1}
    assert knowing(Trace(terms, 3, requests, [odds] * 4)) == 15
    wrong = {"often": 0.3, "seldom": 0.6, "big": 0.1}
    assert knowing(Trace(terms, 3, requests, [wrong] * 4)) == 20
    whole = made(1, HARD)
    part = Trace(whole.models, whole.budget, whole.requests[:100], whole.odds[:100])
    assert least(part) <= knowing(part)


def test_the_least_falls_with_the_time_for_which_requests_may_wait() -> None:
    terms = {name: Terms(need=2, reload_s=5) for name in "ab"}
    requests = [Asked(float(at), "ab"[at % 2]) for at in range(6)]
    trace = Trace(terms, 3, requests, [{"a": 0.5, "b": 0.5}] * 6)
    assert [least(trace, wait) for wait in (0, 0.5, 2, 3)] == [30, 30, 15, 10]


def test_what_others_know_in_the_core_is_told_beside_ours_and_so_is_how_long_requests_wait() -> None:
    figures = main(["--hard", "--seeds", "1", "1", "--knowing", "--holding", "60"], lambda line: None)
    assert figures["knows_the_future_s"] < figures["ours_s"] < figures["lru_s"]
    assert figures["at_once_least_150_s_s"] < figures["at_once_least_20_s_s"] <= figures["at_once_least_s"]
    assert figures["holds_60_s_wait_mean"] > figures["lru_wait_mean"] > figures["ours_wait_mean"] > 0
