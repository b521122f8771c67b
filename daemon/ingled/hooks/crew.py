"""The threads of a hook host: as few as get on.

Plugins are Python, and one thread runs at a time; a second one only costs, unless the first is waiting for something
or hangs. So a thread takes one item of work after the other, another one joins as soon as an item has waited for a
millisecond, and one that had nothing to do for a minute leaves.

One of those that have nothing to do leads: it reads what comes, and runs it itself, so that a call wakes one thread and
not two. When that takes long, it leads no more (`depose`): somebody else has to read.
"""

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ingled import link
from ingled.hooks.table import Slot, Table

log = logging.getLogger(__name__)

WAIT_S = 0.001
"""An item waits no longer for a thread that is busy."""
IDLE_S = 60.0
"""A thread that has had nothing to do for so long leaves."""
STACK_BYTES = 4 << 20
"""Of each thread. It counts as memory of the host; with 1 MiB, endless recursion is a crash and no RecursionError."""

Item = TypeVar("Item")


class _Hand:
    """One thread."""

    __slots__ = ("began", "gate")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.began = 0.0
        """When it took its item, or read one; 0 while it has none."""


class Reader(Protocol):
    """How the one that leads reads. Neither may raise."""

    def wait(self, fresh: bool) -> None:
        """Return when something may have come; `fresh`: this thread has just begun to lead."""

    def take(self) -> None:
        """Read what has come, and put it."""


class Crew(Generic[Item]):
    """Runs items in the order in which they are put, on at most `HOST_SLOTS` threads."""

    def __init__(
        self,
        table: Table,
        work: Callable[[Item, Slot], None],
        rest: Callable[[], None],
        reader: "Reader | None" = None,
    ) -> None:
        """None of these may raise. `rest` is called by a thread that finds no more to do.

        Without a `reader` nobody leads.
        """
        self._table, self._work, self._rest, self._reader = table, work, rest, reader
        self._leader: _Hand | None = None
        self._items: deque[Item] = deque()
        self._lock = threading.Lock()
        self._idle: list[_Hand] = []
        self._hands: list[_Hand] = []
        self._slots = list(range(link.HOST_SLOTS))
        """Those that no thread has; a heap."""
        self._put = self._taken = self._seen = 0
        self._join = 1
        self._short = False
        threading.stack_size(STACK_BYTES)

    @property
    def waiting(self) -> bool:
        """Return whether items wait for a thread."""
        return bool(self._items)

    @property
    def busy(self) -> bool:
        """Return whether anything runs or waits."""
        with self._lock:
            return bool(self._items) or any(hand.began for hand in self._hands)

    @property
    def led(self) -> bool:
        """Return whether one of the threads reads."""
        return self._leader is not None

    def depose(self) -> bool:
        """Let nobody lead whose item takes long; returns whether whoever leads is at work, and may have to be."""
        with self._lock:
            leader = self._leader
            if leader is None or not leader.began:
                return False
            if time.monotonic() - leader.began < WAIT_S / 2:
                return True
            self._leader = None
            return False

    def put(self, *items: Item) -> None:
        """Have these run: by the thread that is at work, if it took up its item just now, else by another one."""
        with self._lock:
            self._items.extend(items)
            self._put += len(items)
            idle = len(self._idle)
        if idle < len(self._hands):
            fresh = time.monotonic() - WAIT_S
            if any(hand.began > fresh for hand in list(self._hands)):
                return
        self._call_in(1)

    def look(self) -> None:
        """Have more threads join where items wait; to be called each `WAIT_S` while there are such."""
        with self._lock:
            stuck = bool(self._items) and self._taken < self._seen
            self._seen = self._put
        if stuck:
            self._call_in(self._join)
            self._join = min(self._join * 2, link.HOST_SLOTS)
        else:
            self._join = 1

    def _call_in(self, number: int) -> None:
        for _ in range(number):
            with self._lock:
                hand = self._idle.pop() if self._idle else None
            if hand is not None:
                hand.gate.release()
            elif len(self._hands) < link.HOST_SLOTS:
                self._start()

    def _start(self) -> None:
        hand = _Hand()
        hand.began = time.monotonic()
        with self._lock:
            index = heapq.heappop(self._slots)
            self._hands.append(hand)
        thread = threading.Thread(target=self._run, args=(hand, index), name=f"hooks-{index}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no memory for its stack, or too many threads
            with self._lock:
                self._forget(hand, index)
            if not self._short:
                log.error("no thread for more calls: %s", error)
            self._short = True
        else:
            self._short = False

    def _run(self, hand: _Hand, index: int) -> None:
        slot = self._table.slot(index, threading.get_native_id())
        items, lock = self._items, self._lock
        while True:
            fresh = leads = False
            with lock:
                if items:
                    item = items.popleft()
                    self._taken += 1
                    hand.began = time.monotonic()
                else:
                    item, hand.began = None, 0.0
                    fresh = self._leader is None
                    leads = self._reader is not None and (fresh or self._leader is hand)
                    if leads:
                        self._leader = hand
                    else:
                        self._idle.append(hand)
            if item is None:
                if leads:
                    self._lead(hand, fresh)
                elif not hand.gate.acquire(timeout=IDLE_S) and self._leave(hand, index):
                    return
                continue
            self._work(item, slot)
            slot.clear()
            item = None
            if not items:
                self._rest()

    def _lead(self, hand: _Hand, fresh: bool) -> None:
        assert self._reader is not None, "without it nobody leads"
        self._reader.wait(fresh)
        hand.began = time.monotonic()
        self._reader.take()

    def _leave(self, hand: _Hand, index: int) -> bool:
        """Let an idle thread go; returns whether it may, and has not just been called."""
        with self._lock:
            if hand in self._idle:
                self._idle.remove(hand)
                self._forget(hand, index)
                return True
        hand.gate.acquire()
        return False

    def _forget(self, hand: _Hand, index: int) -> None:
        """Take a thread off the list; the lock is held."""
        self._hands.remove(hand)
        heapq.heappush(self._slots, index)
