"""A load of the real engine that does not come to its end."""

import subprocess
import sys

import pytest

DIES = """
import asyncio, os, sys, tempfile
from pathlib import Path

from ingled.worker.environment import set_environment

set_environment()
from ingled.link import Spec
from ingled.models.builtin import EMBER_OPTIONS
from ingled.testing_model import write
from ingled.worker import group
from ingled.worker.engine import LoadError
from ingled.worker.vllm_engine import VllmEngine


class Dies(VllmEngine):
    async def _settle(self):
        group.kill_others()
        return await super()._settle()


async def main(folder):
    engine = Dies(Spec("babble", "vllm", str(write(folder / "model")), EMBER_OPTIONS), folder, None)
    try:
        await engine.load(lambda phase, percent: None)
    except LoadError as error:
        print("refused:", error, engine.killed(), flush=True)


os.setsid()
with tempfile.TemporaryDirectory(prefix="ig") as name:
    asyncio.run(main(Path(name)))
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_an_engine_that_dies_at_the_end_of_its_load_is_not_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", DIES], capture_output=True, text=True, timeout=240)
    assert "refused: the engine died before it was ready" in done.stdout, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].endswith(" True"), "and by a SIGKILL"
