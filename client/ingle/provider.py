"""Offers hooks over a connection of its own and serves them, for as long as it is open: `ingle.hooks` in the small.

One thread owns the line; others (one, if not told otherwise) run the hooks, so that the daemon is heard while a hook
takes its time. They meet in queues, and a bell (an eventfd) wakes the line's thread.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic
from typing import Any, Self

from ingle.errors import IngleError, Refused, Unreachable, from_failed
from ingle.hook_calls import Outcome, Runner, Stream, answer, why
from ingle.line import Line
from ingle.offers import HOOKS
from ingle.wire.codec import Message

FOREVER = float("inf")
BACKLOG = 256
"""Most calls that want no reply and wait for a hook; later ones are dropped."""
DEADLINE_MS = 1000
"""For each call, where a hook says nothing else."""
AGAIN = 0.25
STUBBORN = 5.0
"""For so long the daemon may still hold an earlier connection's hook of the same name, when we come back to it."""
FAREWELL = 1.0


class Hook:
    """A hook: its name, what is said in its offer, and what it does at each of its points."""

    def __init__(self, name: str, runners: Mapping[str, Runner], offer: Message | None = None) -> None:
        self.name = name
        self.runners = dict(runners)
        self.offer = offer or {}

    def message(self) -> Message:
        """Return the fields of its `hook_offer`."""
        confirms = {"confirms": True} if {"observe", "model"} & set(self.runners) else {}
        return {**confirms, **self.offer, "name": self.name, "points": list(self.runners)}


class _Question:
    """Asked by any thread, answered by the line's."""

    def __init__(self) -> None:
        self._answered = threading.Event()
        self._value: Any = None
        self._error: IngleError | None = None

    def answer(self, value: Any = None, error: IngleError | None = None) -> None:
        self._value, self._error = value, error
        self._answered.set()

    def wait(self, timeout: float) -> Any:
        if not self._answered.wait(timeout):
            return None
        if self._error is not None:
            raise self._error
        return self._value


OnError = Callable[[str, BaseException], None]


def log(name: str, error: BaseException) -> None:
    """Say on the logger `ingle.hooks` that a hook has failed."""
    import logging

    logging.getLogger("ingle.hooks").error("hook %s: %s", name, why(error), exc_info=error)


class Provider:
    """Hooks that are offered while this is open. Safe for threads.

    with Provider(shout) as provider:
        ...

    When the daemon goes away, it is waited for, and the hooks are offered again. What a hook raises is told to
    `on_error`, and becomes the verdict `error`.
    """

    def __init__(
        self,
        *hooks: Any,
        socket: str | None = None,
        threads: int = 1,
        name: str = "python",
        tags: Sequence[str] = (),
        timeout: float = 10.0,
        patience: float = FOREVER,
        on_error: OnError = log,
    ) -> None:
        """`hooks`: functions that `ingle.hooks.hook` has marked. `threads`: how many calls may run at a time.
        `patience`: how long a daemon may be away.
        """
        self._first = list(dict.fromkeys(map(hook_of, hooks)))
        self._line_options: dict[str, Any] = {"name": name, "tags": tags, "timeout": timeout, "patience": patience}
        self._socket, self._timeout, self._on_error = socket, timeout, on_error
        self._hooks: dict[str, Hook] = {}
        self._refs: dict[int, Hook] = {}
        self._questions: dict[int, _Question] = {}
        self._again: deque[tuple[float, Hook]] = deque()
        """Offers to be made again, and when."""
        self._stubborn: dict[str, float] = {}
        """Until when, for each hook that was offered again in vain."""
        self._streams: dict[str, Stream] = {}
        self._connection = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._todo: deque[Callable[[], None]] = deque()
        """What the line's thread is to do."""
        self._rung = False
        """It has been told so, and has not begun with it."""
        self._over = threading.Event()
        self._closing = False
        self._error: IngleError | None = None
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._bell = -1
        self._bell_lock = threading.Lock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect and offer the hooks. Raises Unreachable, or Refused for the first that the daemon does not take."""
        self._line = Line(self._socket, **self._line_options)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for thread in (*self._workers, self._thread):
            thread.start()
        try:
            for hook in self._first:
                self.offer(hook)
        except BaseException:
            self.close()
            raise

    def offer(self, hook: Any) -> Any:
        """Offer one more, or one of the same name instead; returns what the daemon made of it: order, scope, points."""
        return self._ask(self._offer, hook_of(hook))

    def withdraw(self, name: str) -> None:
        """Offer a hook no more."""
        self._ask(self._withdraw, name)

    def wait(self) -> None:
        """Wait until this is closed. Raises what ended it otherwise."""
        self._over.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Take leave: the hooks are gone. Closing twice is fine."""
        self._closing = True
        if self._thread.is_alive():
            self._ring()
            if threading.current_thread() is not self._thread:
                self._thread.join(FAREWELL)
        for _ in self._workers:
            self._jobs.put(None)
        until = monotonic() + FAREWELL
        for worker in self._workers:
            if worker.is_alive() and worker is not threading.current_thread():
                worker.join(max(0.0, until - monotonic()))
        self._over.set()

    # ------------------------------------------------------------ any thread

    def _ask(self, do: Callable[[Any, _Question], None], what: Any) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("`on_error` cannot offer or withdraw hooks: it would wait for itself")
        question = _Question()
        self._later(lambda: do(what, question))
        until = monotonic() + self._timeout
        while not self._over.is_set() and monotonic() < until:
            if (value := question.wait(0.5)) is not None:
                return value
        raise self._error or Unreachable(self._line.path, "silent")

    def _later(self, do: Callable[[], None]) -> None:
        self._todo.append(do)
        if not self._rung:  # what is done meanwhile goes out together
            self._ring()

    def _ring(self) -> None:
        self._rung = True
        with self._bell_lock:  # its number may be another file's once it is closed
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    # ------------------------------------------------------------ the threads that run hooks

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # as `on_error` raised: the next call needs this thread
                log("of a provider", error)

    def _run(self, message: Message, stream: Stream | None, arrived: float) -> None:
        hooks = dict(self._hooks)
        runners = {name: hook.runners for name, hook in hooks.items()}
        deadlines = {name: hook.offer.get("deadline_ms", DEADLINE_MS) / 1000 for name, hook in hooks.items()}
        outcome = answer(message, runners, stream, arrived, deadlines)
        for name, error in outcome.errors:
            self._on_error(name, error)
        if message["call"]:
            self._later(lambda: self._reply(message, outcome))

    def _end(self, stream: Stream) -> None:
        try:
            stream.close()
        except Exception as error:
            self._on_error("at the end of a stream", error)

    # ------------------------------------------------------------ the line's thread

    def _serve(self) -> None:
        try:
            while not self._closing:
                for ref, message in self._line.hear(self._pause(), self._bell):
                    self._arrived(ref, message)
                with suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
                self._rung = False  # before what is to be done is looked at: what comes after that rings again
                while self._todo:
                    self._todo.popleft()()
                self._line.flush()
        except IngleError as error:
            self._error = error
        except Exception as error:  # a bug of ours: whoever waits has to hear of it
            self._error = IngleError(f"the hooks are gone: {error!r}")
            self._error.__cause__ = error
        finally:
            self._line.close()
            with self._bell_lock:
                os.close(self._bell)
                self._bell = -1
            self._over.set()

    def _pause(self) -> float | None:
        """Offer again what is due, and return how long until the next."""
        while self._again and self._again[0][0] <= monotonic():
            hook = self._again.popleft()[1]
            if self._hooks.get(hook.name) is hook:
                self._refs[self._line.session.offer(hook.message())] = hook
        return None if not self._again else max(0.0, self._again[0][0] - monotonic())

    def _offer(self, hook: Hook, question: _Question) -> None:
        if hook.name in self._hooks:
            self._withdraw(hook.name, _Question())
        try:
            ref = self._line.session.offer(hook.message())
        except Refused as error:
            question.answer(error=error)
            return
        self._hooks[hook.name] = self._refs[ref] = hook
        self._questions[ref] = question

    def _withdraw(self, name: str, question: _Question) -> None:
        self._hooks.pop(name, None)
        self._refs = {ref: hook for ref, hook in self._refs.items() if hook.name != name}
        self._questions[self._line.session.withdraw(name)] = question

    def _arrived(self, ref: int, message: Message) -> None:
        if ref == HOOKS:
            self._called(message)
            return
        question, hook = self._questions.pop(ref, None), self._refs.get(ref)
        if message["t"] == "result":
            if hook is not None:
                self._stubborn.pop(hook.name, None)
            if question is not None:
                question.answer(message.get("value") or {})
        elif message["t"] == "failed":
            self._refused(ref, hook, question, from_failed(message))

    def _refused(self, ref: int, hook: Hook | None, question: _Question | None, error: IngleError) -> None:
        self._refs.pop(ref, None)
        if hook is not None and question is None and self._may_try_again(hook, error):
            self._again.append((monotonic() + AGAIN, hook))
            return
        if hook is not None and self._hooks.get(hook.name) is hook:
            del self._hooks[hook.name]
        if question is not None:
            question.answer(error=error)
        elif hook is not None:
            self._on_error(hook.name, error)
            if not self._hooks:  # nothing is left to serve
                raise error

    def _may_try_again(self, hook: Hook, error: IngleError) -> bool:
        """We may have come back before the daemon has noticed that we had gone."""
        until = self._stubborn.setdefault(hook.name, monotonic() + STUBBORN)
        return getattr(error, "code", "") in ("already_exists", "conflict") and monotonic() < until

    def _called(self, message: Message) -> None:
        arrived = monotonic()
        match message["t"]:
            case "hook_call" if message["point"] == "chunk":
                stream = self._stream(message)
                self._jobs.put(lambda: self._run(message, stream, arrived))
            case "hook_call":
                if message["call"] or self._jobs.qsize() < BACKLOG:
                    self._jobs.put(lambda: self._run(message, None, arrived))
            case "hook_end":
                self._forget(message["id"])
            case "failed":
                self._on_error("of a reply", from_failed(message))

    def _stream(self, message: Message) -> Stream | None:
        """Return the stream that a call at `chunk` belongs to."""
        if message["connection"] != self._connection:
            self._connection = message["connection"]
            for id in list(self._streams):
                self._forget(id)
        stream = self._streams.get(message["id"])
        if stream is None and message.get("seq", 0) == 0:
            stream = Stream()
            if not message.get("last", False):
                self._streams[message["id"]] = stream
        return stream

    def _forget(self, id: str) -> None:
        stream = self._streams.pop(id, None)
        if stream is not None:
            self._jobs.put(lambda: self._end(stream))

    def _reply(self, call: Message, outcome: Outcome) -> None:
        try:
            self._line.session.reply(call, outcome.results, outcome.value)
        except Refused as error:  # a note or a value that is too large, or nothing for the wire
            for name in call["hooks"]:
                self._on_error(name, error)
            results = [{"hook": name, "verdict": "error", "reason": error.message} for name in call["hooks"]]
            self._line.session.reply(call, results)


def hook_of(each: Any) -> Hook:
    """Return the hook that this is, or that a function or class has been marked as."""
    found = each if isinstance(each, Hook) else getattr(each, "ingle_hook", None)
    if not isinstance(found, Hook):
        raise TypeError(f"{each!r} is not a hook: mark it with @hook(point=...)")
    return found
