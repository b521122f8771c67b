"""vLLM's `AsyncLLM` in one process, without any server: what everything else is compared with.

Started by `bench.contenders`: the model's folder and options as JSON in the first argument; then one line of standard
input for each load, answered with one line. The client is this process too, so its cost is part of the front end's.
"""

import asyncio
import gc
import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from ingled.worker.environment import set_environment

from bench.drive import outcome
from bench.load import Load, Outcome
from bench.proc import busy_s, costs


class Raw:
    """The engine, and how it is asked."""

    def __init__(self, folder: str, options: dict[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        config = AsyncEngineArgs(model=folder, **options).create_engine_config()
        if current_platform.is_cpu():
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        self._engine: Any = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        self._count = self._prompts = 0

    async def run(self, load: Load) -> Outcome:
        """Run a load."""
        firsts: list[float] = []
        gaps: list[float] = []
        pieces = 0
        self._prompts = 0
        left = iter(range(load.requests))

        async def stream() -> None:
            nonlocal pieces
            for index in left:
                last, begin = 0.0, time.perf_counter()
                async for text in self._ask(load, index):
                    now = time.perf_counter()
                    if text and load.streamed:
                        pieces += 1
                        if last:
                            gaps.append(now - last)
                        else:
                            firsts.append(now - begin)
                        last = now
                if not last:
                    firsts.append(time.perf_counter() - begin)

        parts = {"process": [os.getpid()]}
        gc.disable()
        before, machine, begin = costs(parts), busy_s(), time.perf_counter()
        await asyncio.gather(*(stream() for _ in range(load.concurrency)))
        seconds = time.perf_counter() - begin
        after, total = costs(parts), busy_s() - machine
        gc.enable()
        return outcome(load, seconds, self._prompts, firsts, gaps, pieces, 0.0, before, after, total)

    async def _ask(self, load: Load, index: int) -> Any:
        from vllm.renderers.params import ChatParams
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        self._count += 1
        kind = RequestOutputKind.DELTA if load.streamed else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(max_tokens=load.tokens, temperature=0, ignore_eos=True, output_kind=kind)
        how = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
        chat: Any = [{"role": "user", "content": load.text(index)}]
        renderer = self._engine.renderer
        _, (ready,) = await renderer.render_chat_async([chat], how, renderer.default_chat_tok_params)
        self._prompts += len(ready["prompt_token_ids"])
        made = 0
        async for output in self._engine.generate(ready, params, f"r{self._count}"):
            made += len(output.outputs[0].token_ids)
            yield output.outputs[0].text
        if made != load.tokens:
            raise RuntimeError(f"{made} tokens instead of {load.tokens}")


async def main() -> None:
    """Start the engine, say so, and run each load."""
    loop = asyncio.get_running_loop()
    told = json.loads(sys.argv[1])
    raw = Raw(told["folder"], told["options"])
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(asdict(await raw.run(Load(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    set_environment()
    import uvloop

    uvloop.run(main())
