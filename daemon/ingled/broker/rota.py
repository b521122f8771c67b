"""Who is heard next: accounts by turns, of each account its processes, and of each process its connections. Pure."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Rota(Generic[T]):
    """Those who have something to say. Who says more than others, or in more voices, is not heard more often."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[int, deque[T]]] = {}
        """By account and process, both in the order of their turns."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, account: int, process: int, one: T) -> None:
        """One of an account has something to say: behind the others of that process."""
        self._lines.setdefault(account, {}).setdefault(process, deque()).append(one)

    def next(self) -> T | None:
        """Return who is next, and forget it: with more to say it is to be added again."""
        for account, processes in self._lines.items():
            del self._lines[account]  # behind the others
            process, line = next(iter(processes.items()))
            del processes[process]
            one = line.popleft()
            if line:
                processes[process] = line
            if processes:
                self._lines[account] = processes
            return one
        return None
