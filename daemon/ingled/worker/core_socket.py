"""The engine core's outputs straight from their socket, all that are there at once.

vLLM's client has a task that reads one message after the other through `zmq.asyncio`, and a queue that wakes another
task. This reads in their place; calls to the core go and come through vLLM's client as before.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import zmq
from vllm.v1.engine.core_client import AsyncMPClient, _process_utility_output
from vllm.v1.engine.exceptions import EngineDeadError

from ingled.worker.vllm_names import SOCKET_USES, absent

MOST = 16
"""Messages read in one turn of the loop."""


def readable(core: Any) -> bool:
    """Return whether this client of vLLM's can be read for, and does nothing else with what it reads."""
    if type(core) is not AsyncMPClient or absent(SOCKET_USES):
        return False
    parallel = core.vllm_config.parallel_config
    if getattr(parallel, "enable_fault_tolerance", False) or getattr(parallel, "enable_elastic_ep", False):
        return False
    return (
        all(hasattr(core, name) for name in ("decoder", "utility_results")) and core.resources.output_queue_task is None
    )


async def read(core: Any, take: Callable[[list[Any]], None]) -> None:
    """Give `take` the outputs of the steps that have come, until cancelled. Raises what ends the core.

    The running task is told to vLLM as its own, which cancels it when the core is shut down.
    """
    loop, resources = asyncio.get_running_loop(), core.resources
    socket: zmq.Socket[bytes] = zmq.Socket.shadow(resources.output_socket.underlying)
    ended: asyncio.Future[None] = loop.create_future()
    decode, results = core.decoder.decode, core.utility_results

    def drain() -> None:
        steps: list[Any] = []
        try:
            for _ in range(MOST):
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
                resources.validate_alive(frames)
                outputs = decode(frames)
                if outputs.utility_output:
                    _process_utility_output(outputs.utility_output, results)
                elif outputs.outputs or outputs.scheduler_stats:
                    steps.append(outputs)
            loop.call_soon(drain)  # the descriptor tells only of what is new
        except zmq.Again:
            pass
        except Exception as error:
            if not ended.done():
                ended.set_exception(error)
        if steps and not ended.cancelled():
            take(steps)

    # The loop watches a duplicate: vLLM closes the socket from another thread.
    watched = os.dup(cast(int, socket.getsockopt(zmq.FD)))
    loop.add_reader(watched, drain)
    resources.output_queue_task = task = asyncio.current_task()
    try:
        loop.call_soon(drain)
        await ended
    except asyncio.CancelledError:
        if resources.engine_dead:
            raise EngineDeadError from None
        raise
    finally:
        loop.remove_reader(watched)
        os.close(watched)
        if resources.output_queue_task is task:
            resources.output_queue_task = None
