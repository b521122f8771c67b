"""The replay of traces: its three rows, and that nobody beats who knows the future."""

from ingled.core.placement import Terms

from bench.residency import Trace, knowing, least, main, record


def test_our_policy_reloads_less_than_lru_and_no_less_than_is_possible() -> None:
    lines: list[str] = []
    figures = main(["--seeds", "1", "2"], lines.append)
    assert len(lines) == 2 + 2 + 1
    assert figures["least_s"] <= figures["ours_s"] <= figures["lru_s"]
    assert figures["to_least"] <= 1.5


def test_who_knows_what_is_popular_keeps_it_and_is_not_better_than_who_knows_the_future() -> None:
    terms = {"often": Terms(need=1, reload_s=5), "seldom": Terms(need=1, reload_s=5), "big": Terms(need=2, reload_s=5)}
    requests = [(float(at), name) for at, name in enumerate(["often", "seldom", "big", "often"])]
    odds = {"often": 0.6, "seldom": 0.3, "big": 0.1}
    assert knowing(Trace(terms, 3, requests, [odds] * 4)) == 15
    wrong = {"often": 0.3, "seldom": 0.6, "big": 0.1}
    assert knowing(Trace(terms, 3, requests, [wrong] * 4)) == 20
    whole = record(1)
    part = Trace(whole.models, whole.budget, whole.requests[:100], whole.odds[:100])
    assert least(part) <= knowing(part)
