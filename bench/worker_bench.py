"""Tokens per second of a worker through the private link, beside raw AsyncLLM in one process.

    python bench/worker_bench.py

All run the same engine, with a model that costs nearly nothing: the worker on its core and through AsyncLLM in turns,
then AsyncLLM alone; the broker's part is played by a bare ROUTER. Prints a table.
"""

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from ingled import link
from ingled.models.builtin import EMBER_OPTIONS
from ingled.testing_link import LinkBroker, group_members, start_nursery
from ingled.testing_model import write

TOKENS = 128
ROUNDS = ((1, 8), (64, 256))  # streams at once, requests in all
TURNS = 3
Row = tuple[int, float, float]
"""Streams, tokens per second, median milliseconds to the first token."""


def body(number: int) -> dict[str, Any]:
    """Return a request that no prefix cache helps."""
    return {"prompt": f"{number} tells a story", "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0.0}


def through_link(spec: link.Spec) -> None:
    """Measure a worker with each front, and print what its start took and what memory it holds."""
    with tempfile.TemporaryDirectory(prefix="ig") as folder, LinkBroker(Path(folder)) as broker:
        begin = time.monotonic()
        process = start_nursery(Path(folder), "vllm")
        while (got := broker.wait(link.Loading, 120))[1].phase != "ready":
            pass
        nursery = got[0]
        print(f"nursery can fork after      {time.monotonic() - begin:7.2f} s")
        workers = {}
        for front in ("core", "async"):
            begin = time.monotonic()
            broker.send(nursery, link.Start(msgspec.structs.replace(spec, model=front, front=front)))
            pid = broker.wait(link.Forked)[1].pid
            workers[front] = broker.wait(link.Ready, 120)[0], pid
            print(f"{front:8} fork to ready      {time.monotonic() - begin:7.2f} s")
        for turn in range(TURNS):
            for many, total in ROUNDS:
                for front in list(workers)[:: -1 if turn % 2 else 1]:
                    worker, pid = workers[front]
                    before = cpu(pid)
                    row = streams(broker, worker, many, total)
                    show(f"worker, {front}", row, (cpu(pid) - before) / total / TOKENS * 1e6)
        pids = {"nursery": [process.pid]} | {front: group_members(pid) for front, (_, pid) in workers.items()}
        for name, group in pids.items():
            print(f"memory (PSS) of {name:12}{sum(pss(one) for one in group) / (1 << 20):7.0f} MiB")
        process.terminate()
        process.wait()
        for _, pid in workers.values():
            os.killpg(pid, signal.SIGKILL)


def streams(broker: LinkBroker, worker: bytes, many: int, total: int) -> Row:
    """Run requests, `many` at once."""
    begin = time.monotonic()
    started: dict[str, float] = {}
    first: dict[str, float] = {}
    ended = tokens = 0
    while ended < total:
        while len(started) < total and len(started) - ended < many:
            id = f"{many}-{begin}-{len(started)}"
            started[id] = time.monotonic()
            broker.send(worker, link.Run(id, "complete", link.pack_body(body(len(started))), True, 1 << 20, "x"))
        got = broker.pump(60)
        match got and got[1]:
            case link.Chunks(pieces):
                for piece in pieces:
                    first.setdefault(piece.id, time.monotonic() - started[piece.id])
                    tokens += len(piece.tokens)
            case link.Ended():
                ended += 1
            case link.RunFailed() as failed:
                raise SystemExit(failed.message)
    took = sorted(first.values())
    return many, tokens / (time.monotonic() - begin), took[len(took) // 2] * 1000


async def raw(spec: link.Spec) -> list[Row]:
    """Measure AsyncLLM alone."""
    from ingled.worker.vllm_config import engine_config
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    config = engine_config(spec)
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    engine = await asyncio.to_thread(AsyncLLM.from_vllm_config, config, disable_log_stats=True)
    rows = []
    for many, total in ROUNDS:
        for turn in range(2):
            gate = asyncio.Semaphore(many)
            took: list[float] = []

            async def one(number: int, turn: int = turn, gate: Any = gate, took: Any = took) -> int:
                wanted = body(number)
                prompt = wanted.pop("prompt")
                count = 0
                async with gate:
                    start = time.monotonic()
                    params = SamplingParams(**wanted, output_kind=RequestOutputKind.DELTA)
                    async for output in engine.generate(prompt, params, f"{turn}-{number}"):
                        if not count:
                            took.append(time.monotonic() - start)
                        count += len(output.outputs[0].token_ids)
                return count

            begin = time.monotonic()
            tokens = sum(await asyncio.gather(*(one(number) for number in range(total))))
            rows.append((many, tokens / (time.monotonic() - begin), sorted(took)[len(took) // 2] * 1000))
    await asyncio.to_thread(engine.shutdown)
    return rows


def pss(pid: int) -> int:
    """Return the memory of a process, shared pages divided among those that share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has had."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def show(name: str, row: Row, us: float | None = None) -> None:
    """Print one line of the table."""
    many, speed, first = row
    front = "" if us is None else f"   front {us:5.1f} us of CPU a token"
    print(f"{name:14}{many:4} streams {speed:8.0f} tok/s   first token {first:6.1f} ms{front}", flush=True)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="ingle-bench-") as folder:
        spec = link.Spec("babble", "vllm", str(write(Path(folder))), EMBER_OPTIONS)
        through_link(spec)
        for row in raw_in_child(spec):
            show("raw AsyncLLM", row)


def raw_in_child(spec: link.Spec) -> list[Row]:
    """Measure AsyncLLM under the loop that the worker uses."""
    from ingled.worker.environment import set_environment

    set_environment()
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    import uvloop

    return uvloop.run(raw(spec))


if __name__ == "__main__":
    main()
