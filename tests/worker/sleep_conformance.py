"""Run by test_vllm_sleep.py in a process of its own: vLLM's own calls for sleep, on a CPU, with memory played.

On a CPU they free nothing, and do all else that they do on a GPU: requests end or wait, caches are emptied, and at
level 2 the weights are read again from their files. Prints JSON: what came of each case.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ingled.worker.environment import set_environment

set_environment()
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from ingle.wire.schema import CompleteBody
from ingled.link import Spec
from ingled.models.builtin import EMBER_OPTIONS
from ingled.testing_model import write
from ingled.worker.engine import Request, SleepError
from ingled.worker.sleeper import DeviceMemory, Sleeper
from ingled.worker.vllm_engine import VllmEngine
from safetensors.torch import load_file, save_file

GIB = 1 << 30
LEFT = 64 << 20
CYCLES = 5


class Dozing(VllmEngine):
    """The real engine; only what it has of its device is played."""

    frees = True

    async def device_memory(self) -> DeviceMemory:
        real = await super().device_memory()
        assert (real.own, real.free) == (0, 0), "there is a device of its own: nothing has to be played"
        asleep = await self._engine.is_sleeping()
        own = LEFT if asleep and self.frees else GIB
        return DeviceMemory(own, 8 * GIB - own)

    def begin(self) -> None:
        """Forget what was before."""
        self._sleeper = Sleeper(self, GIB // 2, GIB)


async def ask(engine: VllmEngine, name: str, until: asyncio.Event | None = None) -> list[int]:
    """Return the tokens of an answer."""
    body = CompleteBody(prompt="the stone and the lamp", max_tokens=40, temperature=0.0, ignore_eos=True)
    news = asyncio.Event()
    answer = engine.run(Request(name, body, stream=False, salt=name), news.set)
    while (delta := answer.take()) is None:
        if until is not None:
            until.set()
        await news.wait()
        news.clear()
    return delta.tokens


async def cycles(engine: Dozing, level: int) -> dict[str, Any]:
    """Sleep and wake some times, and look at what is seen of it."""
    engine.begin()
    before, counts = await ask(engine, f"before {level}"), engine.load_now()
    slept, states, took = [], [], []
    for _ in range(CYCLES):
        found = await engine.sleep(level)
        slept.append([found.left, found.freed])
        states.append(await engine._engine.is_sleeping())
        await engine.health(30)
        took.append(await engine.wake())
        states.append(await engine._engine.is_sleeping())
    uncounted = engine.load_now() == counts
    after = await ask(engine, f"after {level}")
    return {"slept": slept, "states": states, "took": took, "uncounted": uncounted, "same": before == after}


async def asked_in_sleep(engine: Dozing) -> dict[str, Any]:
    """Ask while it sleeps, and wake it."""
    engine.begin()
    expected = await ask(engine, "expected")
    await engine.sleep(1)
    asked = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(ask(engine, "in sleep", asked))
        await asked.wait()
        await engine.health(30)
        waits = not answer.done()
        await engine.wake()
    return {"waits": waits, "same": answer.result() == expected}


async def failure(engine: Dozing, level: int) -> str:
    engine.begin()
    try:
        await engine.sleep(level)
        await engine.wake()
    except SleepError as error:
        return str(error)
    return "it slept and woke"


async def checked(engine: Dozing) -> str:
    try:
        await engine.check()
    except SleepError as error:
        return str(error)
    return "as before"


async def main(folder: Path, front: str) -> None:
    model = write(folder / "model")
    (folder / "run").mkdir()
    engine = Dozing(Spec("babble", "vllm", str(model), EMBER_OPTIONS, front=front), folder / "run", None)
    info = await engine.load(lambda phase, percent: None)
    found: dict[str, Any] = {"no_sleep": info.no_sleep, "device_weights": info.device_weights}
    found |= {f"level {level}": await cycles(engine, level) for level in (1, 2)}
    found["asked in sleep"] = await asked_in_sleep(engine)
    engine.begin()
    await engine.check()
    found["checked"] = await checked(engine)
    engine.frees = False
    found["keeps"] = await failure(engine, 1)
    await engine._engine.wake_up()
    engine.frees = True
    # Other weights under the same name: what level 2 reads when it wakes is not what it was.
    file, other = model / "model.safetensors", folder / "other.safetensors"
    tensors = load_file(file)
    save_file({name: tensor.flip(0).contiguous() for name, tensor in tensors.items()}, other, {"format": "pt"})
    other.rename(file)
    found["other weights"] = await failure(engine, 2)
    found["checked with others"] = await checked(engine)
    file.unlink()
    found["no weights"] = await failure(engine, 2)
    print(json.dumps(found), flush=True)
    await engine.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ig") as name:
        asyncio.run(main(Path(name), sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)
