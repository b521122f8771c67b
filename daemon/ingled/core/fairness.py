"""Whose turn it is: who waits for a model, who runs on it, and who is next. Pure.

Classes go in order. Within a class the account that has been given least is next, by virtual token counters (VTC:
Sheng et al., Fairness in Serving Large Language Models, OSDI 2024): an account pays for the tokens of its prompts and
answers, of a running answer for those that have been made, and one that comes back after a pause is lifted to the
others, so that nobody saves up turns. Within an account its own `priority` decides, then arrival.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ingled.core.accounts import BATCH as BATCH_PRIORITY

PROMPT, ANSWER = 1, 2
"""What a token of a prompt and of an answer is worth, as in the paper."""

INTERACTIVE, NORMAL, BATCH = 0, 1, 2
"""Ranks of the classes."""

FIRST_OF_ALL = -1000
"""The priority of a request that has waited too long."""

KEPT_PART = 16
"""One place of so many, and at least one, is kept from batch requests."""
KEPT_S = 600.0
"""So long after the last request of an earlier class places are kept for the next."""
AHEAD_PART = 8
"""One request for so many places, and one more, is with the engine ahead of time: a place is not empty meanwhile."""
PATIENCE_S = 60.0
"""An account of which nothing runs is next after so many seconds, whatever its class."""


class Waiter(Protocol):
    """What has to be known of a request."""

    id: str
    account: str
    priority: int
    arrived: float
    run_at: float


def rank(priority: int) -> int:
    """Return the class of a priority."""
    return INTERACTIVE if priority < 0 else NORMAL if priority < BATCH_PRIORITY else BATCH


class Counters:
    """What accounts have been given of one model."""

    def __init__(self, under_way: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """`under_way` tells accounts, and what has been made for them and is not paid yet."""
        self._under_way = under_way
        self._paid: Counter[str] = Counter()
        self._last: str | None = None
        """Who was given something last."""

    def of(self, accounts: Iterable[str]) -> dict[str, int]:
        """Return the counters of these accounts."""
        found = {account: self._paid[account] for account in accounts}
        for account, worth in self._under_way():
            if account in found:
                found[account] += worth
        return found

    def comes(self, account: str, others: Iterable[str]) -> None:
        """An account of which nothing waited wants something while these wait: nothing is saved up by pausing."""
        waiting = set(others) - {account}
        if not waiting and self._last not in (None, account):
            waiting = {str(self._last)}
        if waiting:
            counters = self.of({account, *waiting})
            mine = counters.pop(account)
            self._paid[account] += max(0, min(counters.values()) - mine)

    def goes(self, account: str) -> None:
        """It has been given something."""
        self._last = account

    def pay(self, account: str, prompt: int, answer: int) -> None:
        """A request of an account is over, or will be given nothing more."""
        self._paid[account] += PROMPT * prompt + ANSWER * answer


Lanes = dict[int, dict[str, Waiter]]
"""Of one account: by priority, and then in order of arrival."""


class Turns:
    """One model: who waits for it, who runs on it, who is next."""

    def __init__(self, worth: Callable[[Waiter], int]) -> None:
        """`worth` tells what a running request has been given so far."""
        self.waiting: dict[str, Waiter] = {}
        """In the order in which they came."""
        self.running: dict[str, Waiter] = {}
        self._freed: set[str] = set()
        """Of those, the ones with which the engine is done: their readers take their time."""
        self._batch: set[str] = set()
        """Of those, the ones of class batch that have a place."""
        self.places = 0
        """Requests that the engine runs at once; 0: any number."""
        self.beside: Sequence[Turns] = ()
        """Those of other models that the same engine runs, in the same places."""
        self.counters = Counters(lambda: ((one.account, worth(one)) for one in self.running.values()))
        self._classes: tuple[dict[str, Lanes], ...] = ({}, {}, {})
        self._again: dict[str, Waiter] = {}
        """Those that ran already: their worker died."""
        self._runs: Counter[str] = Counter()
        self._waits: Counter[str] = Counter()
        self._opened_at = 0.0
        self._asked_at: float | None = None
        """When somebody before `batch` last asked."""

    def open(self, now: float, places: int) -> None:
        """The model is ready, or takes requests again."""
        self._opened_at, self.places = now, places

    def waits(self, account: str) -> int:
        """Return how many requests of an account wait."""
        return self._waits[account]

    @property
    def accounts(self) -> int:
        """Return how many accounts wait."""
        return len(self._waits)

    # ------------------------------------------------------------ coming and going

    def wait(self, one: Waiter) -> None:
        """A request begins to wait."""
        self._waits[one.account] += 1
        self.waiting[one.id] = one
        if one.run_at:
            self._again[one.id] = one
        else:
            lanes = self._classes[rank(one.priority)].setdefault(one.account, {})
            lanes.setdefault(one.priority, {})[one.id] = one

    def run(self, one: Waiter) -> None:
        """A request is given to the worker."""
        self.counters.goes(one.account)
        self.running[one.id] = one
        if rank(one.priority) == BATCH:
            self._batch.add(one.id)
        self._runs[one.account] += 1

    def free(self, one: Waiter) -> None:
        """The engine is done with a running request."""
        if one.id not in self._freed:
            self._batch.discard(one.id)
            self._freed.add(one.id)
            _less(self._runs, one.account)

    @property
    def taken(self) -> int:
        """Return how many requests the engine has."""
        return len(self.running) - len(self._freed)

    def leave(self, one: Waiter) -> None:
        """A request waits or runs no longer."""
        if self.running.pop(one.id, None) is not None:
            self._batch.discard(one.id)
            if one.id in self._freed:
                self._freed.discard(one.id)
            else:
                _less(self._runs, one.account)
        elif self.waiting.pop(one.id, None) is not None:
            _less(self._waits, one.account)
            if self._again.pop(one.id, None) is None:
                accounts = self._classes[rank(one.priority)]
                lanes = accounts[one.account]
                del lanes[one.priority][one.id]
                if not lanes[one.priority]:
                    del lanes[one.priority]
                if not lanes:
                    del accounts[one.account]

    def asked(self, now: float, one: Waiter) -> None:
        """A request has come, whether or not it will have to wait."""
        if rank(one.priority) < BATCH:
            self._asked_at = now
        if not self._waits[one.account]:
            self.counters.comes(one.account, self._waits)

    # ------------------------------------------------------------ whose turn it is

    def kept(self, now: float) -> int:
        """Return the places that batch requests leave free."""
        lately = self._asked_at is not None and now - self._asked_at < KEPT_S
        return max(1, self.places // KEPT_PART) if lately and self.places > 1 else 0

    def room(self, now: float, priority: int) -> bool:
        """Return whether one more of this priority may go to the engine."""
        if not self.places:
            return True
        taken = self.taken + sum(others.taken for others in self.beside)
        if rank(priority) == BATCH and (kept := self.kept(now)):
            # What others have of the kept places is not kept free once more.
            return len(self._batch) < self.places - kept and taken < self.places
        return taken < self.places + 1 + self.places // AHEAD_PART

    def next(self, now: float) -> Waiter | None:
        """Return who is to be given to the engine now; None when there is no place or nobody waits."""
        if self._again:
            return next(iter(self._again.values()))
        if not self.room(now, 0):
            return None
        overdue = self._overdue(now)
        if overdue is not None:
            return overdue
        for order, accounts in enumerate(self._classes):
            if accounts and (order < BATCH or self.room(now, BATCH_PRIORITY)):
                return _first(accounts[self._least(accounts)])
        return None

    def overdue(self, now: float, one: Waiter) -> bool:
        """Return whether a request is next because it has waited too long."""
        since = max(one.arrived, self._opened_at)
        return not one.run_at and now - since > PATIENCE_S and not self._runs[one.account]

    def _overdue(self, now: float) -> Waiter | None:
        if now - self._opened_at <= PATIENCE_S:
            return None
        heads = [_first(lanes) for accounts in self._classes for lanes in accounts.values()]
        late = [one for one in heads if self.overdue(now, one)]
        return min(late, key=lambda one: one.arrived) if late else None

    def _least(self, accounts: dict[str, Lanes]) -> str:
        """Return the account with the lowest counter, of equal ones that whose request came first."""
        if len(accounts) == 1:
            return next(iter(accounts))
        counters = self.counters.of(accounts)
        return min(accounts, key=lambda account: (counters[account], _first(accounts[account]).arrived))

    # ------------------------------------------------------------ what those who wait are told

    def position(self, one: Waiter) -> int:
        """Return how many requests are before this one, as it looks now."""
        if one.id in self._again:
            return list(self._again).index(one.id)
        accounts = self._classes[rank(one.priority)]
        lanes = accounts[one.account]
        lane = lanes[one.priority]
        last = next(reversed(lane)) == one.id  # as is one that has just come
        index = len(lane) - 1 if last else list(lane).index(one.id)
        index += sum(len(lanes[earlier]) for earlier in lanes if earlier < one.priority)
        return self._before(rank(one.priority), one.account, index, self._order(accounts))

    def positions(self) -> Iterator[tuple[Waiter, int]]:
        """Yield all who wait, with how many are before each."""
        yield from ((one, i) for i, one in enumerate(self._again.values()))
        for order, accounts in enumerate(self._classes):
            turns = self._order(accounts)
            for account, lanes in accounts.items():
                for index, one in enumerate(_in_order(lanes)):
                    yield one, self._before(order, account, index, turns)

    def _order(self, accounts: dict[str, Lanes]) -> dict[str, tuple[int, float, int]]:
        counters = self.counters.of(accounts) if len(accounts) > 1 else dict.fromkeys(accounts, 0)
        return {one: (counters[one], _first(lanes).arrived, i) for i, (one, lanes) in enumerate(accounts.items())}

    def _before(self, order: int, account: str, index: int, turns: dict[str, tuple[int, float, int]]) -> int:
        """Return how many come before the request of this index of an account, if accounts take turns."""
        found = len(self._again) + index
        found += sum(_count(lanes) for earlier in self._classes[:order] for lanes in earlier.values())
        for other, lanes in self._classes[order].items():
            if other != account:
                found += min(_count(lanes), index + (turns[other] < turns[account]))
        return found


def _less(counter: Counter[str], account: str) -> None:
    counter[account] -= 1
    if not counter[account]:
        del counter[account]


def _first(lanes: Lanes) -> Waiter:
    return next(iter(lanes[min(lanes)].values()))


def _in_order(lanes: Lanes) -> Iterator[Waiter]:
    for priority in sorted(lanes):
        yield from lanes[priority].values()


def _count(lanes: Lanes) -> int:
    return sum(map(len, lanes.values()))
