"""The order of calls: those of one stream run one after another, all others side by side."""

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from ingle.wire.hook_schema import HookCall

from ingled.hooks.registry import Plugin
from ingled.hooks.streams import Stream

Key = tuple[str, tuple[str, ...]]
"""A request, and the hooks that handle its text together."""


class Lane:
    """One stream, and its calls that have not run. `owner` is whom the answers are for."""

    __slots__ = ("calls", "dropped", "key", "owners", "running", "stream")

    def __init__(self, key: Key, stream: Stream) -> None:
        self.key, self.stream = key, stream
        self.calls: deque[HookCall] = deque()
        self.owners: deque[Any] = deque()
        self.running = False
        self.dropped = False


class Lanes:
    """All streams that a host handles."""

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self._plugins = plugins
        self._lanes: dict[Key, Lane] = {}
        self._by_id: dict[str, list[Key]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lanes)

    def put(self, call: HookCall, owner: Any) -> Lane | None:
        """Take a call for a stream; returns its lane if that is to be given to a thread.

        Number 0 begins anew: an earlier attempt, and a thread that hangs in it, do not matter any more.
        """
        key = (call.id, tuple(call.hooks))
        with self._lock:
            lane = self._lanes.get(key)
            if lane is None or call.seq == 0:
                if lane is None:
                    self._by_id.setdefault(call.id, []).append(key)
                else:
                    lane.dropped = True
                lane = self._lanes[key] = Lane(key, Stream(self._plugins))
            lane.calls.append(call)
            lane.owners.append(owner)
            begin, lane.running = not lane.running, True
        return lane if begin else None

    def take(self, lane: Lane) -> tuple[HookCall, Any] | None:
        """Return the next call of a lane, or None: then it is at rest until one is put."""
        with self._lock:
            if lane.dropped or not lane.calls:
                lane.running = False
                return None
            return lane.calls.popleft(), lane.owners.popleft()

    def done(self, lane: Lane, call: HookCall) -> None:
        """A call has run; with the last one the stream is forgotten."""
        if call.last:
            with self._lock:
                self._drop(lane.key, lane)

    def forget(self, id: str) -> None:
        """The stream of a request is over."""
        with self._lock:
            for key in list(self._by_id.get(id, ())):
                self._drop(key, self._lanes[key])

    def clear(self) -> None:
        """Forget all streams."""
        with self._lock:
            for key, lane in list(self._lanes.items()):
                self._drop(key, lane)

    def _drop(self, key: Key, lane: Lane) -> None:
        lane.dropped = True
        if self._lanes.get(key) is not lane:
            return
        del self._lanes[key]
        keys = self._by_id[key[0]]
        keys.remove(key)
        if not keys:
            del self._by_id[key[0]]
