"""What vLLM says in the worker's own log: how far loading has come, and why it failed."""

import re

_EXCEPTION = re.compile(r"(?:^|\s)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Fault)): (\S.*)$")
# What vLLM says when the cause is elsewhere.
_POINTERS = ("See root cause", "See stack trace", "initialization failed", "EngineCore encountered an issue")
_RANK_DIED = re.compile(r"Worker proc \S+ died unexpectedly(?: \(exit code: (-?\d+|None)\))?")
_SHARDS = re.compile(r"Loading \w+ checkpoint shards:\s+(\d+)%")


def root_cause(lines: list[str]) -> str | None:
    """Return the exception that vLLM printed for a failed start, as one line, or None."""
    for line in reversed(lines):
        found = _EXCEPTION.search(line)
        if found and not any(pointer in line for pointer in _POINTERS):
            name = found[1].rpartition(".")[2]
            return found[2] if name in ("ValueError", "RuntimeError", "Exception") else f"{name}: {found[2]}"
    return None


def rank_killed(lines: list[str]) -> bool:
    """Return whether a process of the engine's own, one of `tensor_parallel`, was ended by SIGKILL, by what vLLM says.

    It does not always say by what; then it is held to be that, for who ends by itself says why.
    """
    found = next((found for line in reversed(lines) if (found := _RANK_DIED.search(line))), None)
    return found is not None and found[1] in (None, "None", "-9")


def shards_percent(lines: list[str]) -> int | None:
    """Return how much of the weights has been read, as the engine's progress bar says, or None."""
    for line in reversed(lines):
        if found := _SHARDS.search(line):
            return int(found[1])
    return None
