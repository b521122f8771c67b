"""What a step of the GPU check found, and how that is told. Pure.

A check is `passed` only where it ran on a GPU. On a CPU the same code is `rehearsed`: it works, and proves nothing of a
GPU. What cannot run where it is asked for is `not run`, with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bench.table import markdown

Mark = Literal["passed", "rehearsed", "not run", "failed"]
MARKS: tuple[Mark, ...] = ("passed", "rehearsed", "not run", "failed")
"""From good to bad: a step has the worst mark of its checks."""
NO_GPU = "there is no NVIDIA GPU here"

ALL_PASSED, FAILED, NOT_ALL_RUN = 0, 1, 3
"""Exit statuses; 2 is for wrong options."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    mark: Mark
    why: str = ""


@dataclass
class Sheet:
    """What a step writes down while it runs."""

    on_gpu: bool
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def check(self, what: str, good: bool, why: str = "") -> bool:
        """Write down a check that means something on every device; `why` tells what was seen."""
        mark: Mark = "failed" if not good else "passed" if self.on_gpu else "rehearsed"
        self.checks.append(Check(what, mark, why))
        return good

    def check_gpu(self, what: str, good: bool, why: str = "") -> None:
        """Write down a check of the GPU itself; without one it is not run, whatever was seen."""
        if self.on_gpu:
            self.check(what, good, why)
        else:
            self.not_run(what, NO_GPU)

    def not_run(self, what: str, why: str) -> None:
        """Write down what could not be looked at."""
        self.checks.append(Check(what, "not run", why))


@dataclass(frozen=True)
class Result:
    """A step that is over."""

    name: str
    checks: tuple[Check, ...]
    figures: Mapping[str, Any]
    seconds: float
    commit: str
    date: str

    @property
    def mark(self) -> Mark:
        """Return the worst mark of its checks; a step that looked at nothing has not run."""
        return max((check.mark for check in self.checks), key=MARKS.index, default="not run")

    @property
    def words(self) -> str:
        """Return how many checks have which mark."""
        counts = ((mark, sum(check.mark == mark for check in self.checks)) for mark in MARKS)
        return ", ".join(f"{count} {mark}" for mark, count in counts if count)

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"mark": self.mark}


def result(plain: Mapping[str, Any]) -> Result:
    """Return a result from its JSON."""
    fields = {key: value for key, value in plain.items() if key not in ("mark", "checks")}
    return Result(checks=tuple(Check(**check) for check in plain["checks"]), **fields)


def due(names: Sequence[str], results: Mapping[str, Result], commit: str, again: bool) -> list[str]:
    """Return the steps that are to be run: those that have not passed, or been rehearsed, with this commit."""
    done = {name for name, one in results.items() if one.mark in ("passed", "rehearsed") and one.commit == commit}
    return [name for name in names if again or name not in done]


def exit_status(results: Sequence[Result]) -> int:
    """Return the status of a run: 0 only if everything has passed on a GPU."""
    marks = {one.mark for one in results}
    if "failed" in marks:
        return FAILED
    return ALL_PASSED if marks == {"passed"} else NOT_ALL_RUN


def summary(results: Sequence[Result]) -> str:
    """Return the last line of a run."""
    counts = ", ".join(f"{sum(one.mark == mark for one in results)} {mark}" for mark in MARKS)
    text = f"{len(results)} steps: {counts}"
    status = exit_status(results)
    if status == NOT_ALL_RUN:
        return f"{text}. Nothing failed, and nothing is proven that did not pass on a GPU: exit status {status}"
    return f"{text}. Exit status {status}"


def overview(claims: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """Return the table of all steps; those that nobody has run yet are in it."""
    rows = []
    for name, claim in claims.items():
        one = results.get(name)
        cells = ["not run", "-", "-", "-"] if one is None else [one.mark, one.words, f"{one.seconds:.0f}", one.commit]
        rows.append([name, claim, *cells])
    return markdown(["step", "what it shows", "mark", "checks", "s", "commit"], rows, texts=4)


def details(results: Sequence[Result]) -> str:
    """Return every check, with what was seen."""
    rows = [[one.name, check.what, check.mark, check.why or "-"] for one in results for check in one.checks]
    return markdown(["step", "check", "mark", "seen"], rows, texts=4)


def figures(results: Sequence[Result]) -> str:
    """Return the figures of all steps but those that have tables of their own."""
    rows = [
        [one.name, key, f"{value:,.2f}" if isinstance(value, float) else str(value)]
        for one in results
        for key, value in one.figures.items()
        if not isinstance(value, dict | list)
    ]
    return markdown(["step", "figure", "value"], rows, texts=2) if rows else "No figures."


def speeds(results: Sequence[Result]) -> str:
    """Return the table of speeds: every row under every load, medians of its rounds."""
    rows = []
    for one in results:
        for load, its in one.figures.get("loads", {}).items():
            cells = [f"{its[key]:,.{digits}f}" for key, digits in SPEEDS.items()]
            rows.append([load, one.figures["row"], *cells])
    heads = ["load", "row", "tokens/s", "first ms p50", "p99", "front us/token", "rounds"]
    return markdown(heads, sorted(rows, key=lambda row: row[0]), texts=2) if rows else "No speeds."


SPEEDS = {"tokens_s": 0, "first_p50_ms": 1, "first_p99_ms": 1, "front_us_per_token": 1, "rounds": 0}
"""The columns of the table, with their digits."""
