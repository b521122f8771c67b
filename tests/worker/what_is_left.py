"""Run by test_what_is_left.py in a process of its own: a worker without the garbage collector, and what its requests
leave behind.

    python what_is_left.py ENGINE FRONT FOLDER

The broker is played on a thread of the same process. Prints, as JSON, how many objects of each of our classes only the
collector would have found after requests of all kinds have ended and were released.
"""

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ingled import link
from ingled.models.builtin import EMBER_OPTIONS
from ingled.testing_link import LinkBroker
from ingled.testing_model import write
from ingled.worker.environment import set_environment
from ingled.worker.serve import Worker

END_S = 120.0


def spec(engine: str, front: str, folder: Path) -> link.Spec:
    """Return what the worker runs."""
    if engine == "echo":
        return link.Spec("m", "echo", "", echo={"delay_ms": 1.0, "context": 512})
    return link.Spec("m", "vllm", str(write(folder)), EMBER_OPTIONS, front=front)


def run(id: str, prompt: str = "Tell me a story", *, stream: bool = True, waits: bool = False, **more: Any) -> link.Run:
    """Return a request of a few tokens."""
    wanted = {"prompt": prompt, "max_tokens": 20, "ignore_eos": True, "temperature": 0.0} | more
    return link.Run(id, "complete", link.pack_body(wanted), stream, 1000, "x", waits=waits)


def ask(broker: LinkBroker) -> None:
    """Send requests of all kinds, and wait for their ends."""
    worker = broker.wait(link.Ready, END_S)[0]
    long = "word " * 9000
    for one in (
        run("streamed"),
        run("whole", stream=False),
        run("stopped", stop=["zebra"]),
        run("too long", long),
        run("too much", max_tokens=100_000),
        run("aborted at once", max_tokens=400),
        run("aborted", max_tokens=400),
        run("told to begin", waits=True),
        run("told to begin, too long", long, waits=True),
        run("told to begin, too much", max_tokens=100_000, waits=True),
        run("never begun", waits=True),
    ):
        broker.send(worker, one)
    broker.send(worker, link.Abort(["aborted at once", "never begun"]))
    while not any(piece.id == "aborted" for piece in broker.wait(link.Chunks, END_S)[1].pieces):
        pass
    broker.send(worker, link.Abort(["aborted"]))
    for id in ("told to begin", "told to begin, too long", "told to begin, too much"):
        broker.send(worker, link.Begin(id, 0))
    ended: set[str] = set()
    until = time.monotonic() + END_S
    while len(ended) < 10 and time.monotonic() < until:
        ended |= {one.id for _, one in broker.seen if isinstance(one, link.Ended | link.RunFailed)}
        broker.pump(1.0)
    if len(ended) < 10:
        raise TimeoutError(f"only these have ended: {sorted(ended)}")
    broker.send(worker, link.Release(sorted(ended)))
    broker.send(worker, link.Measure(1))
    broker.wait(link.Measured, END_S)


async def look(worker: Worker, broker: LinkBroker) -> dict[str, int]:
    """Return what is left of our classes, by name, and let the worker go."""
    try:
        await asyncio.to_thread(ask, broker)
    finally:
        worker.leave("it is over")
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    left = Counter(type(one).__name__ for one in gc.garbage if type(one).__module__.startswith(("ingle.", "ingled.")))
    gc.garbage.clear()
    return left


async def main(engine: str, front: str, folder: Path) -> None:
    """Print what is left."""
    runtime = folder / "r"
    (runtime / "w").mkdir(parents=True)
    with LinkBroker(runtime) as broker:
        of = spec(engine, front, folder)
        worker = Worker(runtime, of, runtime / "w", None, time.monotonic(), (0,), fill=False)
        gc.disable()
        left, _ = await asyncio.gather(look(worker, broker), worker.run())
    print(json.dumps(left))


if __name__ == "__main__":
    set_environment()  # vLLM reads it at its import
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
