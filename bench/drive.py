"""Keep a number of lines busy and take the times: one loop, one clock and one thread for every protocol.

Plain sockets and epoll, because asyncio, aiohttp and the like cost more for each token than the servers that are
measured. What it costs all the same is in every result.
"""

import gc
import os
import resource
import select
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bench.load import Load, Outcome
from bench.proc import Cost, busy_s

SILENCE_S = 120.0


Usage = tuple[int, int]
"""Tokens of a prompt and of its answer."""


class Line(Protocol):
    """One connection that asks one thing at a time."""

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""

    def ask(self, prompt: str, tokens: int, streamed: bool) -> None:
        """Send a request."""

    def read(self) -> tuple[int, Usage | None]:
        """Read what is there: how many pieces of text, and the tokens of an answer that is complete."""


Watch = Callable[[], dict[str, Cost]]


def drive(lines: Sequence[Line], load: Load, watch: Watch) -> Outcome:
    """Run the load over the lines, each of which asks again as soon as it has its answer."""
    firsts: list[float] = []
    gaps: list[float] = []
    asked = dict.fromkeys((line.fileno() for line in lines), 0.0)
    last = dict.fromkeys(asked, 0.0)
    by_number = {line.fileno(): line for line in lines}
    poll = select.epoll()
    for number in asked:
        poll.register(number, select.EPOLLIN)
    clock = time.perf_counter
    sent = ended = pieces = prompts = 0
    gc.disable()
    before, machine, mine = watch(), busy_s(), _cpu_s()
    begin = clock()
    for number, line in by_number.items():
        if sent < load.requests:
            asked[number] = clock()
            line.ask(load.text(sent), load.tokens, load.streamed)
            sent += 1
    while ended < load.requests:
        ready = poll.poll(SILENCE_S)
        if not ready:
            raise TimeoutError(f"no answer for {SILENCE_S:.0f} s")
        for number, _ in ready:
            line = by_number[number]
            got, over = line.read()
            now = clock()
            if got:
                pieces += got
                if last[number]:
                    gaps.append(now - last[number])
                else:
                    firsts.append(now - asked[number])
                last[number] = now
            if over is not None:
                if over[1] != load.tokens:
                    raise RuntimeError(f"{over[1]} tokens instead of {load.tokens}")
                if not last[number]:
                    firsts.append(now - asked[number])
                ended += 1
                prompts += over[0]
                last[number] = 0.0
                if sent < load.requests:
                    asked[number] = clock()
                    line.ask(load.text(sent), load.tokens, load.streamed)
                    sent += 1
    seconds = clock() - begin
    spent = _cpu_s() - mine
    after, total = watch(), busy_s() - machine
    gc.enable()
    poll.close()
    return outcome(load, seconds, prompts, firsts, gaps, pieces, spent, before, after, total)


def outcome(
    load: Load,
    seconds: float,
    prompt_tokens: int,
    firsts: list[float],
    gaps: list[float],
    pieces: int,
    client_cpu_s: float,
    before: dict[str, Cost],
    after: dict[str, Cost],
    busy: float,
) -> Outcome:
    """Return what came of a load, from what was read before and after it."""
    cpu = {part: after[part].cpu_s - before[part].cpu_s for part in after}
    rss = {part: cost.rss_bytes for part, cost in after.items()}
    pss = {part: cost.pss_bytes for part, cost in after.items()}
    others = max(0.0, busy - sum(cpu.values()) - client_cpu_s) / seconds
    tokens = load.requests * load.tokens
    return Outcome(seconds, tokens, prompt_tokens, firsts, gaps, pieces, client_cpu_s, cpu, rss, pss, others)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def many_descriptors(wanted: int) -> None:
    """Let this process open so many descriptors. Raises OSError where the machine does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        except ValueError as error:
            raise OSError(f"{wanted} descriptors are needed, {hard} are allowed: {os.strerror(24)}") from error
