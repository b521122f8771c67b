"""What the comparison measures, in which order, and how it refuses what cannot be compared."""

from pathlib import Path

import pytest

from bench.contenders import Contender
from bench.load import Load, Outcome
from bench.record import Record
from bench.shapes import Model
from bench.spread import figure
from bench.throughput import check_prompts, figures, measure, requests, tables, undisturbed

ORDER: list[str] = []


class Pretended(Contender):
    """A row without a server."""

    def __init__(self, name: str, prompt_tokens: int = 70) -> None:
        super().__init__(Model("none", Path()))
        self.name, self.prompt_tokens, self.running = name, prompt_tokens, False
        self.disturbance: list[float] = []

    def start(self) -> None:
        self.running = True

    def measure(self, load: Load) -> Outcome:
        assert self.running
        ORDER.append(f"{load.round} {self.name}")
        others = self.disturbance.pop(0) if self.disturbance else 0.0
        parts = {"server": 1.0, "core": 1.0}
        sizes = {"server": 1, "core": 1}
        return Outcome(1.0, 1000, self.prompt_tokens, [0.1], [0.01], 1000, 0.1, parts, sizes, sizes, others)

    def stop(self) -> None:
        self.running = False


def test_rows_take_turns_and_each_round_begins_with_another_one() -> None:
    ORDER.clear()
    rows = [Pretended("a"), Pretended("b")]
    results = measure(rows, [Load(8, 8)], rounds=2, apart=False)
    assert [one for one in ORDER if not one.startswith("999")] == ["0 a", "0 b", "1 b", "1 a"]
    assert {name: len(found) for name, found in results[Load(8, 8)].items()} == {"a": 2, "b": 2}
    assert not any(row.running for row in rows)


def test_a_row_is_not_measured_with_more_at_a_time_than_it_is_for() -> None:
    few, many = Pretended("few"), Pretended("many")
    few.most = 8
    started: list[object] = []
    results = measure([few, many], [Load(8, 8), Load(64, 64)], 1, apart=False, begun=started.append)
    assert {load.concurrency: sorted(found) for load, found in results.items()} == {8: ["few", "many"], 64: ["many"]}
    assert started == [[few, many]]


def test_rows_that_are_apart_never_run_at_the_same_time() -> None:
    ORDER.clear()
    rows = [Pretended("a"), Pretended("b")]
    measure(rows, [Load(1, 8), Load(8, 8)], rounds=2, apart=True)
    assert [one for one in ORDER if not one.startswith("999")] == [
        "0 a",
        "0 a",
        "0 b",
        "0 b",
        "1 b",
        "1 b",
        "1 a",
        "1 a",
    ]


def test_rows_that_read_other_prompts_are_not_compared() -> None:
    found = {
        name: {"prompt_tokens": figure(values)} for name, values in {"a": [70.0, 71.0], "b": [70.0, 300.0]}.items()
    }
    with pytest.raises(RuntimeError, match="count other tokens"):
        check_prompts(Load(8, 8), found)
    check_prompts(Load(8, 8), {"a": found["a"]})
    uncounted = {"prompt_tokens": figure([None])}
    check_prompts(Load(8, 8), {"a": found["a"], "c": uncounted})
    check_prompts(Load(8, 8), {"c": uncounted})


def test_a_measurement_that_something_else_disturbed_is_done_again() -> None:
    row = Pretended("a")
    row.start()
    row.disturbance = [0.9, 0.5, 0.1, 0.0]
    assert undisturbed(row, Load(8, 8), pause_s=0).others == 0.1
    row.disturbance = [0.9, 0.5, 0.6, 0.7, 0.8, 0.0]
    assert undisturbed(row, Load(8, 8), pause_s=0).others == 0.5


def test_there_are_enough_requests_for_each_that_runs_at_a_time() -> None:
    for concurrency in (1, 8, 64, 256, 1024):
        for prompt in ("short", "long"):
            for quick in (True, False):
                assert requests(concurrency, prompt, quick) >= concurrency


def test_tables_have_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    row = Pretended("raw AsyncLLM")
    row.start()
    found = {row.name: figures([row.measure(Load(8, 8)), row.measure(Load(8, 8))])}
    tables(Record("none"), Load(8, 8), found, 0.1)
    out = capsys.readouterr().out
    assert "### 8 at once, short prompts, streamed" in out
    assert "| raw AsyncLLM | 1,000 (1,000..1,000) |" in out
    assert "1.00 (1.00..1.00)" in out
