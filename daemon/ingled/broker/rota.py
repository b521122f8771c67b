"""Who is heard next: accounts by turns, and of each account its members by turns. Pure."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Rota(Generic[T]):
    """Those who have something to say. Who has more than others is not heard more often."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[T]] = {}
        """By account, in the order of their turns."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, account: int, one: T) -> None:
        """One of an account has something to say: behind the others of that account."""
        line = self._lines.get(account)
        if line is None:
            self._lines[account] = deque([one])
        else:
            line.append(one)

    def next(self) -> T | None:
        """Return who is next, and forget it: with more to say it is to be added again."""
        for account, line in self._lines.items():
            del self._lines[account]  # behind the others
            one = line.popleft()
            if line:
                self._lines[account] = line
            return one
        return None
