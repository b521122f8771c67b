"""What the worker's log says of loading and of a failed start."""

from pathlib import Path

from ingled.log_end import read_lines
from ingled.worker.vllm_log import root_cause, shards_percent

FAILED = """\
(EngineCore pid=7) INFO 11-25 03:42:46 [core.py:100] Initializing a V1 LLM engine
(EngineCore pid=7) ERROR 11-25 03:42:46 [core.py:1150] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-25 03:42:46 [core.py:1150] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-25 03:42:46 [core.py:1150] ValueError: No available memory for the cache blocks.
(EngineCore pid=7) Process EngineCore:
(EngineCore pid=7) Traceback (most recent call last):
(EngineCore pid=7) ValueError: No available memory for the cache blocks.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_root_cause_is_the_engines_own_exception() -> None:
    assert root_cause(FAILED.splitlines()) == "No available memory for the cache blocks."
    assert root_cause(["x: torch.OutOfMemoryError: CUDA out of memory"]) == "OutOfMemoryError: CUDA out of memory"
    assert root_cause(["all is well"]) is None


def test_progress_bars_tell_how_far_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    bar = "Loading safetensors checkpoint shards:  {} Completed | 1/2 [00:00<00:00]"
    log.write_text(bar.format("0%") + "\r" + bar.format("50%") + "\n")
    assert shards_percent(read_lines(log)) == 50
