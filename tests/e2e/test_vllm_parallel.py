"""A model spread over two workers of vLLM (`tensor_parallel = 2`), on a CPU too, each on a device of its own."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingle import Client
from ingled.remains import SHARED
from ingled.testing import DaemonFixture
from ingled.testing_link import group_members, wait_until
from ingled.testing_model import write
from ingled.testing_remains import abandoned

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PROFILE = '[models.{name}]\nsource = "{source}"\nkv_cache = "16MiB"\ncontext = 512\ndtype = "float32"\n{more}\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        source = write(Path(folder))
        models = PROFILE.format(name="whole", source=source, more="default = true")
        models += PROFILE.format(name="halves", source=source, more="tensor_parallel = 2")
        memory = '[daemon]\nmemory = ["900MB", "900MB"]\n'
        with DaemonFixture(memory + models, engine="vllm") as running:
            yield running


def test_it_says_the_same_and_goes_on_after_the_death_of_one_half(daemon: DaemonFixture) -> None:
    before = abandoned([SHARED])
    with Client(str(daemon.socket), timeout=60) as client:

        def tell(model: str) -> str:
            return client.complete("The keeper", model=model, max_tokens=40, temperature=0, ignore_eos=True).text

        assert tell("halves") == tell("whole")
        shown = client.show("halves")
        assert shown.devices == ["memory 0", "memory 1"]
        assert shown.kv_bytes == client.show("whole").kv_bytes == 16 << 20, "of both halves together"
        assert client.show("whole").devices in (["memory 0"], ["memory 1"])
        assert shown.pid is not None and (shown.need_bytes or 0) > (client.show("whole").need_bytes or 0)
        there = group_members(shown.pid)
        assert len(there) >= 4, "its front, the engine's core, and a worker for each half"
        half = max(there)
        os.kill(half, signal.SIGKILL)
        assert tell("halves") == tell("whole"), "another worker has taken its place"
        assert client.show("halves").pid != shown.pid
        wait_until(lambda: not group_members(shown.pid or 0))
        client.unload("halves")
        wait_until(lambda: client.show("halves").state == "cold")
        wait_until(lambda: not abandoned([SHARED]) - before)
