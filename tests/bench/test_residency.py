"""The replay of traces: its three rows, and that nobody beats who knows the future."""

from bench.residency import main


def test_our_policy_reloads_less_than_lru_and_no_less_than_is_possible() -> None:
    lines: list[str] = []
    figures = main(["--quick"], lines.append)
    assert len(lines) == 2 + 2 + 1
    assert figures["least_s"] <= figures["ours_s"] <= figures["lru_s"]
    assert figures["to_least"] <= 1.5
