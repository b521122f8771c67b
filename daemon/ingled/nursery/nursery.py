"""The nursery's loop: fork workers, watch them by pidfd, tell the broker; one thread, nothing that blocks."""

import contextlib
import fcntl
import gc
import logging
import os
import select
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from ingled import journal, link, remains
from ingled.line import Line
from ingled.log_end import tail
from ingled.nursery import child
from ingled.nursery.environment import import_engine, native_threads

log = logging.getLogger(__name__)

KILL_S = 5.0
"""Between asking a worker to end and making it end."""
PLAN_S = 60.0
"""For the plan of a model: the first one of an architecture starts a process of its own."""


@dataclass(slots=True)
class Worker:
    """A forked worker."""

    model: str
    pidfd: int
    kill_at: float | None = None


@dataclass(slots=True)
class Planning:
    """A plan that is made in a forked child."""

    ref: int
    pid: int
    deadline: float


class Nursery:
    """Holds an imported engine and the workers forked from it."""

    def __init__(self, runtime: Path, engine: str, socket: Path | None = None) -> None:
        """`socket` is the broker's public one, if the broker made it."""
        self._socket = socket
        self._runtime = runtime
        self._engine = engine
        self._workers: dict[int, Worker] = {}
        self._plans: dict[int, Planning] = {}
        self._to_plan: deque[link.Plan] = deque()
        """One is made at a time: what is loaded meanwhile needs the cores."""
        self._state = link.Loading("importing", 0)
        self._orders: list[link.ToPeer] = []
        self._leaving = False
        self._line = Line(runtime, "nursery")
        self._line.on_attach = lambda: self._line.send(self._state)  # type: ignore[method-assign]

    def run(self) -> int:
        """Serve until the broker or the lease ends it; the workers live on by their own lease."""
        # The signal comes as a byte on a pipe: a handler that raised could leave a half-told fork behind.
        waked, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._line.tick()
        for percent in import_engine(self._engine):
            self._tell(link.Loading("importing", percent))
            self._look()
            self._leaving |= _told(waked)
            if self._line.expired or self._leaving:
                self._line.leave()
                return 0
        if native_threads() > 1:
            log.warning("%d threads after the import: a fork may hang", native_threads())
        gc.collect()
        gc.freeze()  # the collector of a child would write to, and so copy, every page of these objects
        self._tell(link.Loading("ready", 100))
        while not self._line.expired and not self._leaving:
            self._wait(waked)
            self._leaving |= _told(waked)
            self._look()
            self._act()
            self._reap()
            self._plan()
        if self._line.expired:
            self._clean()
        log.info("the nursery leaves: %s", "asked" if self._leaving else "no broker answered")
        self._line.leave()
        return 0

    def _clean(self) -> None:
        """No broker came back: remove what the last one left, unless one starts just now. Logs stay, to tell why."""
        with (self._runtime / link.LOCK_FILE).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for name in (link.SOCKET_FILE, link.SECRET_FILE, link.NURSERY_FILE):
                (self._runtime / name).unlink(missing_ok=True)
            remains.remove_waiting(self._runtime)
            if self._socket is not None:
                self._socket.unlink(missing_ok=True)

    def _tell(self, state: link.Loading) -> None:
        self._state = state
        self._line.send(state)

    def _look(self) -> None:
        """Take what the broker sent; orders wait until the import is over."""
        for message in self._line.receive():
            if isinstance(message, link.Stop):
                self._leaving = True
            else:
                self._orders.append(message)
        self._line.tick()

    def _wait(self, waked: int) -> None:
        poll = select.poll()
        poll.register(waked, select.POLLIN)
        if (connection := self._line.connection) is not None:
            poll.register(connection, select.POLLIN | (select.POLLOUT if connection.wants_write else 0))
        for worker in self._workers.values():
            poll.register(worker.pidfd, select.POLLIN)
        for pipe in self._plans:
            poll.register(pipe, select.POLLIN)
        poll.poll(self._line.tick_s * 1000)
        if connection is not None and connection.wants_write:
            with contextlib.suppress(OSError):  # `receive` will tell
                connection.flush()

    def _act(self) -> None:
        if self._leaving:
            return  # nobody would end what is forked now
        orders, self._orders = self._orders, []
        while orders:
            order = orders.pop(0)
            try:
                self._obey(order)
            except OSError as error:  # too many processes or descriptors: this passes
                log.error("cannot fork, will try again: %s", error)
                self._orders = [order, *orders]
                return

    def _obey(self, order: link.ToPeer) -> None:
        match order:
            case link.Start():
                self._start(order)
            case link.Kill():
                self._kill(order.pid)
            case link.Plan():
                self._to_plan.append(order)
            case _:
                log.error("the nursery does not understand %s", type(order).__name__)

    # ------------------------------------------------------------ workers

    def _start(self, order: link.Start) -> None:
        spec = order.spec
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._line.close()
                status = child.become_worker(self._runtime, order)
            finally:
                os._exit(status)
        try:
            self._workers[pid] = Worker(spec.model, os.pidfd_open(pid))
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        log.info("forked worker %d of '%s'", pid, spec.model, extra=journal.about(model=spec.model))
        self._line.send(link.Forked(spec.model, pid))

    def _kill(self, pid: int) -> None:
        worker = self._workers.get(pid)
        if worker is None:
            log.info("told to kill %d, which is no worker of this nursery", pid)
            return
        dismiss(pid)
        worker.kill_at = worker.kill_at or time.monotonic() + KILL_S

    def _reap(self) -> None:
        now = time.monotonic()
        for pid, worker in list(self._workers.items()):
            if worker.kill_at is not None and now >= worker.kill_at:
                _signal_group(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._exited(pid, worker, status)
        for pipe, planning in list(self._plans.items()):
            self._planned(pipe, planning, now)

    def _exited(self, pid: int, worker: Worker, status: int) -> None:
        os.close(worker.pidfd)
        del self._workers[pid]
        _signal_group(pid, signal.SIGKILL)
        remains.remove(child.worker_folder(self._runtime, pid))
        words = status_words(status)
        log.info("worker %d of '%s': %s", pid, worker.model, words, extra=journal.about(model=worker.model))
        lines = list(tail(link.worker_log(self._runtime, worker.model)))
        self._line.send(link.Exited(worker.model, pid, words, lines))

    # ------------------------------------------------------------ plans

    def _plan(self) -> None:
        if self._plans or not self._to_plan:
            return
        order = self._to_plan.popleft()
        try:
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                pid = os.fork()
            except OSError:
                os.close(reading)
                os.close(writing)
                raise
        except OSError as error:  # this passes, but a plan is not worth waiting for it
            self._line.send(link.Planned(order.ref, note=f"cannot fork: {error}"))
            return
        if pid == 0:
            status = 1
            try:
                self._line.close()
                status = child.become_plan(order.spec, order.ref, writing)
            finally:
                os._exit(status)
        os.close(writing)
        self._plans[reading] = Planning(order.ref, pid, time.monotonic() + PLAN_S)

    def _planned(self, pipe: int, planning: Planning, now: float) -> None:
        """Answer a plan whose child has written, ended, or taken too long."""
        late = ""
        try:
            data = os.read(pipe, 64 << 10)
        except BlockingIOError:
            if now < planning.deadline:
                return
            data, late = b"", f"the plan took more than {PLAN_S:.0f} s"
        _signal_group(planning.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(planning.pid, signal.SIGKILL)
        _, status = os.waitpid(planning.pid, 0)
        os.close(pipe)
        del self._plans[pipe]
        try:
            planned = link.decode_from_peer(data)
        except ValueError:
            planned = link.Planned(planning.ref, note=late or f"the plan ended with {status_words(status)}")
        self._line.send(planned)


def status_words(status: int) -> str:
    """Return a wait status for people."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = {one.value: one.name for one in signal.Signals}
        return f"killed by {known.get(number, f'signal {number}')}"
    return f"exit status {os.WEXITSTATUS(status)}"


def dismiss(pid: int) -> None:
    """Ask a worker to leave: its front alone, which ends its engine in order.

    An engine that is told as well begins to end at once, and writes to pages that it shared until then: the front,
    which looks a last time at what both have had at most, saw up to 42 MiB too much.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _told(waked: int) -> bool:
    """Return whether a signal has come."""
    try:
        return bool(os.read(waked, 64))
    except BlockingIOError:
        return False
