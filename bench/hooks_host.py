"""What a hop to the hook host costs: microseconds of a call, and chunk calls per second.

    python bench/hooks_host.py

A bare ROUTER plays the broker, so this is the host, its plugins and two ways over the socket. Prints a table.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ingle.wire.hook_schema import HookCall
from ingled import link
from ingled.testing_link import LinkBroker, start_host

CALLS = 5000
STREAMS = 64
ROUNDS = 300

PROMPT = """
from ingled.hooks import changed, hookimpl
@hookimpl
def ingled_prompt(messages, call, options):
    return changed([*messages[:-1], messages[-1] | {"content": messages[-1]["content"].replace("Bob", "B.")}])
"""
LOUD = """
from ingled.hooks import hookimpl
class Loud:
    held = 0
    def feed(self, text):
        return text.upper()
    def flush(self):
        return ""
@hookimpl
def ingled_chunk():
    return Loud()
"""
ABOUT: dict[str, Any] = {
    "account": "uid:1000", "model": "ember", "op": "chat", "stream": True, "client": "bench", "tags": [], "context": [],
}  # fmt: skip
MESSAGES = [{"role": "user", "content": "Bob likes the fire kept in the corner of his house. " * 20}]


@contextlib.contextmanager
def hosted(**plugins: str) -> Any:
    """Run a host with these plugins; yields the broker's double and the host's address."""
    with tempfile.TemporaryDirectory(prefix="ig") as folder:
        runtime, drop_ins = Path(folder), Path(folder, "plugins")
        drop_ins.mkdir()
        for name, text in plugins.items():
            (drop_ins / f"{name}.py").write_text(text)
        with LinkBroker(runtime) as broker:
            began = time.monotonic()
            process: subprocess.Popen[bytes] = start_host(runtime)
            peer, _ = broker.wait(link.Attach)
            broker.send(peer, link.Setup({}, str(drop_ins)))
            _, offers = broker.wait(link.Offers)
            bad = [one.problem for one in offers.plugins if one.problem]
            if bad:
                sys.exit(str(bad))
            yield broker, peer, (time.monotonic() - began) * 1000
            process.kill()
            process.wait()


def ask(broker: LinkBroker, peer: bytes, calls: list[HookCall]) -> None:
    """Send calls together and wait until all are answered."""
    broker.send(peer, link.HookCalls(calls))
    missing = len(calls)
    while missing:
        missing -= len(broker.wait(link.HookReplies)[1].replies)
    broker.seen.clear()


def one_by_one(number: int) -> str:
    """Return a row: calls with so many filters, one after another."""
    names = [f"filter{index}" for index in range(number)]
    with hosted(**dict.fromkeys(names or ["filter0"], PROMPT)) as (broker, peer, start):
        taken = []
        for call in range(CALLS):
            value = {"call": ABOUT, "messages": MESSAGES}
            began = time.perf_counter_ns()
            ask(broker, peer, [HookCall(call + 1, "prompt", names, value, f"r{call}")])
            taken.append((time.perf_counter_ns() - began) / 1000)
        cuts = statistics.quantiles(taken[CALLS // 10 :], n=100)
    what = f"{number} filters in one hop"
    return f"{what:24}{cuts[49]:8.0f} us p50{cuts[98]:8.0f} us p99   host ready in {start:.0f} ms"


def streams(number: int) -> str:
    """Return a row: chunk calls per second, of many streams at once."""
    with hosted(**{f"loud{index}": LOUD for index in range(number)}) as (broker, peer, _):
        names = [f"loud{index}" for index in range(number)]
        began = time.perf_counter()
        for turn in range(ROUNDS):
            value: dict[str, Any] = {"text": "and so on, "}
            if turn == 0:
                value["call"] = ABOUT
            base = turn * STREAMS + 1
            last = turn == ROUNDS - 1
            calls = [HookCall(base + one, "chunk", names, value, f"s{one}", turn, last) for one in range(STREAMS)]
            ask(broker, peer, calls)
        took = time.perf_counter() - began
    what = f"{number} handlers, {STREAMS} streams"
    return f"{what:24}{STREAMS * ROUNDS / took:8.0f} chunk calls/s"


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} processors")
    for number in (0, 1, 5):
        print(one_by_one(number), flush=True)
    for number in (1, 5):
        print(streams(number), flush=True)


if __name__ == "__main__":
    main()
