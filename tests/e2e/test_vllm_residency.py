"""Three models on vLLM where there is room for two: one is put out, memory comes back, answers stay the same."""

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import lives
from ingled.testing_model import write

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

PROFILE = (
    '[models.{name}]\nsource = "{source}"\nmemory = "600MB"\nkv_cache = "16MiB"\ncontext = 512\ndtype = "float32"\n'
)
BODY = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonFixture]:
    with tempfile.TemporaryDirectory(prefix="ingle-model-") as folder:
        source = write(Path(folder))
        models = "".join(PROFILE.format(name=name, source=source) for name in "acb")
        models += "priority = -10\n"  # of `b`: its load is measured with the engine's start, and would be dear
        with DaemonFixture('[daemon]\nmemory = "1300MB"\npatience = 2\n' + models, engine="vllm") as running:
            yield running


def answer(client: Wire, model: str) -> str:
    text, end = client.read(client.ask("tell me", model=model, body=BODY))
    assert end["t"] == "done", end
    return text


def resident_bytes(pid: int) -> int:
    """What a worker's process group takes for itself."""
    worker = psutil.Process(pid)
    return sum(one.memory_full_info().uss for one in (worker, *worker.children(recursive=True)))


def test_three_models_share_room_for_two(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        alone = answer(client, "b")
        assert answer(client, "a") == alone, "the same weights"
        models = {model["name"]: model for model in client.call("models")["models"]}
        pid = models["b"]["pid"]
        assert resident_bytes(pid) > 50e6
        begin = time.monotonic()
        texts: dict[str, str] = {}
        thread = threading.Thread(target=lambda: texts.update(a="".join(answer(client, "a") for _ in range(3))))
        thread.start()
        texts["c"] = answer(other, "c")
        thread.join()
        print(f"third model answered after {time.monotonic() - begin:.1f} s")
        assert texts == {"a": alone * 3, "c": alone}
        assert not lives(pid), "its memory is given back"
        states = {model["name"]: model["state"] for model in other.call("models")["models"]}
        assert states == {"a": "ready", "b": "cold", "c": "ready"}
        assert answer(other, "b") == alone, "it comes back when it is asked"
