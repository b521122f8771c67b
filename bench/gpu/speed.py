"""The steps of the GPU check that compare speed: one row each, started alone, so that each has the whole GPU.

What is measured and how is `bench.throughput`'s; here a row is a step, because a step ends within ten minutes.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contenders import Contender
from bench.gpu.house import Place
from bench.gpu.sheet import Sheet
from bench.load import Load
from bench.rows import CONTENDERS
from bench.rust_front import NoRustFront, present
from bench.shapes import make
from bench.throughput import figures, running


def row(key: str) -> Callable[[Sheet, Place], None]:
    """Return the step that measures one row."""

    def measure(sheet: Sheet, place: Place) -> None:
        kind = CONTENDERS[key]
        what = f"{kind.name} answers every load in full"
        if key == "rust" and not place.on_gpu and present() is None:
            sheet.not_run(what, "vLLM's CPU build has no vllm-rs, and it is not fetched (300 MB) for a rehearsal")
            return
        most = max(concurrency for concurrency, _ in place.loads)
        with tempfile.TemporaryDirectory(prefix="igg-") as folder:
            model = make(place.middle, Path(folder), max(64, most), eager=not place.on_gpu)
            try:
                loads = _loads(kind(model), place)
            except NoRustFront as error:
                sheet.not_run(what, str(error))
                return
        sheet.figures |= {"row": kind.name, "model": model.name, "options": model.options, "loads": loads}
        sheet.check(what, len(loads) == len(place.loads), f"{sum(one['tokens'] for one in loads.values()):,} tokens")

    return measure


def _loads(contender: Contender, place: Place) -> dict[str, dict[str, Any]]:
    """Measure every load with one row; returns the medians by its title."""
    found: dict[str, dict[str, Any]] = {}
    tokens = 128 if place.on_gpu else 16
    with running([contender]):
        for concurrency, requests in place.loads:
            load = Load(concurrency, requests, tokens=tokens)
            outcomes = [contender.measure(Load(**(load.plain() | {"round": number}))) for number in range(place.rounds)]
            its = figures(outcomes)
            front = its["front_cpu_s_per_1k"].median * 1000
            medians = {key: its[key].median for key in ("tokens_s", "first_p50_ms", "first_p99_ms", "prompt_tokens")}
            counts = {"rounds": place.rounds, "tokens": sum(one.tokens for one in outcomes)}
            found[f"{concurrency:>4} at once"] = medians | counts | {"front_us_per_token": front}
    return found
