"""Tokens per second and time to the first token: raw AsyncLLM, `ingled`, and `vllm serve`, in one run.

    python bench/throughput.py [--streams 1 64] [--requests 16 256] [--tokens 128] [--without-serve]

The same model (ember), options and prompts for each, one after the other on the same machine; greedy, to the full
number of tokens. The clients of `ingled` and `vllm serve` are one process with one connection (or session) each, and
take their share of the same cores. Prints a table with ratios to raw AsyncLLM.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingled.models.builtin import EMBER_OPTIONS, ember_path
from ingled.testing import DaemonFixture, Wire

OPTIONS = EMBER_OPTIONS | {"max_num_seqs": 256}
START_S = 300.0


@dataclass(frozen=True)
class Row:
    """One measurement."""

    streams: int
    tokens_s: float
    first_p50_ms: float
    first_p99_ms: float


@dataclass(frozen=True)
class Load:
    """What is asked."""

    streams: int
    requests: int
    tokens: int

    def prompt(self, index: int) -> str:
        """Return a prompt that shares no long prefix with the others."""
        return f"{index} Hello, please tell me a story about a small lamp."


def summarise(load: Load, seconds: float, firsts: list[float]) -> Row:
    """Return the row of a measurement; `firsts` are seconds to the first token."""
    firsts.sort()
    p50, p99 = firsts[len(firsts) // 2], firsts[min(len(firsts) - 1, int(len(firsts) * 0.99))]
    return Row(load.streams, load.requests * load.tokens / seconds, p50 * 1000, p99 * 1000)


async def drive(load: Load, ask: Callable[[str, int], AsyncIterator[None]]) -> Row:
    """Keep `load.streams` streams busy; `ask` yields once for each piece of an answer."""
    gate = asyncio.Semaphore(load.streams)
    firsts: list[float] = []

    async def one(index: int) -> None:
        async with gate:
            begin, first = time.perf_counter(), True
            async for _ in ask(load.prompt(index), load.tokens):
                if first:
                    firsts.append(time.perf_counter() - begin)
                    first = False

    begin = time.perf_counter()
    await asyncio.gather(*[one(index) for index in range(load.requests)])
    return summarise(load, time.perf_counter() - begin, firsts)


# ---------------------------------------------------------------- raw AsyncLLM


def raw(loads: list[Load], out: Any) -> None:
    """Measure AsyncLLM in this process, and send the rows."""
    from ingled.nursery.environment import set_environment

    set_environment()
    import uvloop
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.renderers.params import ChatParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    async def main() -> list[Row]:
        config = AsyncEngineArgs(model=str(ember_path()), **OPTIONS).create_engine_config()
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        engine = await asyncio.to_thread(AsyncLLM.from_vllm_config, config)
        count = 0

        async def ask(prompt: str, tokens: int) -> AsyncIterator[None]:
            nonlocal count
            count += 1
            params = SamplingParams(
                max_tokens=tokens, temperature=0, ignore_eos=True, output_kind=RequestOutputKind.DELTA
            )
            how = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
            chat: Any = [{"role": "user", "content": prompt}]
            limit = engine.renderer.default_chat_tok_params
            _, (ready,) = await engine.renderer.render_chat_async([chat], how, limit)
            async for _ in engine.generate(ready, params, f"r{count}"):
                yield

        await drive(Load(8, 8, 16), ask)
        rows = [await drive(load, ask) for load in loads]
        engine.shutdown()
        return rows

    out.send(uvloop.run(main()))


def measure_raw(loads: list[Load]) -> list[Row]:
    """Measure AsyncLLM in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="ingle-bench-") as folder:  # vLLM leaves its sockets behind
        os.environ["VLLM_RPC_BASE_PATH"] = folder
        process = context.Process(target=raw, args=(loads, there))
        process.start()
        if not here.poll(START_S):
            raise RuntimeError("raw AsyncLLM gave nothing")
        rows: list[Row] = here.recv()
        process.join()
    return rows


# ---------------------------------------------------------------- ingled


def measure_ingled(loads: list[Load]) -> list[Row]:
    """Measure the daemon over its public socket."""
    config = '[models.ember]\nsource = "builtin:ember"\nmax_sequences = 256\n'
    with DaemonFixture(config, engine="vllm") as daemon, Wire(daemon.socket) as client:
        client.call("load", model="ember")
        _stream(client, Load(8, 8, 16))
        return [_stream(client, load) for load in loads]


def _stream(client: Wire, load: Load) -> Row:
    firsts: list[float] = []
    begun: dict[str, float] = {}
    waiting: dict[int, float] = {}
    used: dict[str, int] = {}
    offsets: dict[str, int] = {}
    sent = ended = 0
    begin = time.perf_counter()
    while ended < load.requests:
        while sent < load.requests and sent - ended < load.streams:
            body = {"messages": [{"role": "user", "content": load.prompt(sent)}], "max_tokens": load.tokens}
            body |= {"temperature": 0, "ignore_eos": True}
            waiting[sent] = time.perf_counter()
            client.send({"t": "request", "ref": sent, "op": "chat", "body": body, "credit": 64})
            sent += 1
        message = client.receive()
        kind, id = message["t"], message.get("id", "")
        if kind == "accepted":
            begun[id] = waiting.pop(message["ref"])
            used[id] = offsets[id] = 0
        elif kind == "chunk":
            if id in begun:
                firsts.append(time.perf_counter() - begun.pop(id))
            used[id] += 1
            offsets[id] += len(message["x"].encode())
            if used[id] == 32:
                client.send({"t": "credit", "id": id, "n": 32, "ack": offsets[id]})
                used[id] = 0
        elif kind == "done":
            assert message["usage"]["completion"] == load.tokens
            ended += 1
        elif kind == "failed":
            raise RuntimeError(message)
    return summarise(load, time.perf_counter() - begin, firsts)


# ---------------------------------------------------------------- vllm serve


def measure_serve(loads: list[Load]) -> list[Row]:
    """Measure vLLM's own server over HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from ingled.nursery.environment import DEFAULTS

    flags = [f"--{key.replace('_', '-')}" if value is True else f"--{key.replace('_', '-')}={value}"
             for key, value in OPTIONS.items()]  # fmt: skip
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(ember_path())]
    command += ["--served-model-name", "ember", "--host", "127.0.0.1", "--port", str(port), *flags]
    command += ["--disable-uvicorn-access-log"]
    environ = DEFAULTS | dict(os.environ) | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+") as log:
        environ["VLLM_RPC_BASE_PATH"] = folder
        server = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            return asyncio.run(_http(loads, port, server))
        except Exception as error:
            log.seek(0)
            raise RuntimeError(f"vllm serve: {error}\n{log.read()[-3000:]}") from error
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


async def _http(loads: list[Load], port: int, server: "subprocess.Popen[bytes]") -> list[Row]:
    import aiohttp

    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        begin = time.monotonic()
        while True:
            try:
                async with session.get(f"{base}/health") as answer:
                    if answer.status == 200:
                        break
            except aiohttp.ClientError:
                pass
            if server.poll() is not None or time.monotonic() - begin > START_S:
                raise RuntimeError("it did not start")
            await asyncio.sleep(0.2)

        async def ask(prompt: str, tokens: int) -> AsyncIterator[None]:
            body = {"model": "ember", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
            body |= {"temperature": 0, "ignore_eos": True, "stream": True}
            async with session.post(f"{base}/v1/chat/completions", json=body) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                        yield

        await drive(Load(8, 8, 16), ask)
        return [await drive(load, ask) for load in loads]


def main() -> None:
    """Measure all and print the table."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--streams", type=int, nargs="+", default=[1, 64])
    options.add_argument("--requests", type=int, nargs="+", default=[16, 256])
    options.add_argument("--tokens", type=int, default=128)
    options.add_argument("--without-serve", action="store_true")
    args = options.parse_args()
    loads = [Load(s, n, args.tokens) for s, n in zip(args.streams, args.requests, strict=True)]
    measures = {"raw AsyncLLM": measure_raw, "ingled": measure_ingled}
    if not args.without_serve:
        measures["vllm serve"] = measure_serve
    print(f"{'':<14}{'streams':>8}{'tokens/s':>10}{'ratio':>7}{'first p50 ms':>14}{'p99 ms':>9}", flush=True)
    base: dict[int, float] = {}
    for name, measure in measures.items():
        for row in measure(loads):
            ratio = row.tokens_s / base.setdefault(row.streams, row.tokens_s)
            print(
                f"{name:<14}{row.streams:>8}{row.tokens_s:>10.0f}{ratio:>7.2f}"
                f"{row.first_p50_ms:>14.1f}{row.first_p99_ms:>9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
