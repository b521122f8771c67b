"""What is asked, and the figures that come of it."""

import pytest

from bench.load import Load, Outcome


def test_no_two_prompts_begin_alike() -> None:
    loads = [
        Load(concurrency, 4, prompt, streamed, round=number)
        for concurrency in (1, 64)
        for prompt in ("short", "long")
        for streamed in (True, False)
        for number in (0, 1)
    ]
    firsts = [load.text(index).split()[0] for load in loads for index in range(load.requests)]
    assert len(set(firsts)) == len(firsts)


def test_every_row_of_a_round_gets_the_same_prompts() -> None:
    assert Load(8, 8, round=1).text(3) == Load(**Load(8, 8, round=1).plain()).text(3)


def test_the_prompts_of_all_rounds_are_of_one_length() -> None:
    assert len(Load(8, 8, round=1).text(3)) == len(Load(8, 8, round=402).text(3))


def test_long_prompts_are_long() -> None:
    assert 50 < len(Load(1, 1).text(0)) < 100
    assert 900 < len(Load(1, 1, "long").text(0)) < 1100


def test_an_outcome_gives_the_figures_of_the_tables() -> None:
    outcome = Outcome(
        seconds=2.0,
        tokens=2000,
        prompt_tokens=70,
        firsts=[0.1, 0.2, 0.3],
        gaps=[0.01],
        pieces=1000,
        client_cpu_s=0.02,
        cpu_s={"broker": 0.02, "worker": 0.04, "core": 1.0},
        rss_bytes={"broker": 1_000_000, "worker": 2_000_000, "core": 4_000_000},
        pss_bytes={"broker": 1_000_000, "worker": 1_000_000, "core": 1_000_000},
        others=0.5,
    )
    figures = outcome.figures()
    assert figures["tokens_s"] == 1000
    assert figures["first_p50_ms"] == pytest.approx(200)
    assert figures["front_cpu_s_per_1k"] == pytest.approx(0.03)
    assert figures["core_cpu_s_per_1k"] == pytest.approx(0.5)
    assert figures["client_cpu_s_per_1k"] == pytest.approx(0.01)
    assert figures["cpu_us_per_token:worker"] == pytest.approx(20)
    assert figures["front_rss_mb"] == 3
    assert figures["pss_mb"] == 3
    assert figures["tokens_per_piece"] == 2
