"""The hook host: a process that runs plugins for the broker.

Its main thread loads the plugins and then waits for the end. One thread keeps the link and never runs a plugin, so that
its signs of life go on while a plugin works, and stop while a plugin holds the interpreter lock. A crew of threads
runs the calls; the one of them that leads reads them, and the keeper of the link only while nobody does. Nothing of
prompts or answers is logged here.
"""

import atexit
import contextlib
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import msgspec
from ingle.wire.hook_schema import HookCall, HookReply, HookResult
from ingle.zmtp import Dealer

from ingled import link
from ingled.folder import Folder
from ingled.hooks import confine, runner
from ingled.hooks.alarm import Alarm
from ingled.hooks.crew import WAIT_S, Crew
from ingled.hooks.lanes import Lane, Lanes
from ingled.hooks.registry import Registry
from ingled.hooks.table import Slot, Table
from ingled.hooks.uplink import Uplink

log = logging.getLogger(__name__)

TURN_S = 0.0002
"""An answer waits no longer for others that are being made."""
SWITCH_S = 0.0005
"""A thread that only computes lets go of the interpreter lock so often: calls of others, and signs of life, get on."""
DRAIN_S = 1.0
"""At the end, for calls that still run."""
ATEXIT_S = 1.0
"""At the end, for what plugins have registered with atexit."""
NO_MEMORY = 75
"""Exit status when the host itself got no memory."""

Job = tuple[HookCall, Dealer | None]
"""A call and the connection that it came over."""

_encode = msgspec.msgpack.Encoder().encode


class Host:
    """All of the process."""

    def __init__(self, runtime: Path, name: str) -> None:
        self._name = name
        self._setup: link.Setup | None = None
        self._setup_came = threading.Event()
        self._leave = threading.Event()
        self._registry: Registry | None = None
        self._lanes = Lanes({})
        self._folder: Folder | None = None
        self._table = Table(runtime, os.getpid())
        self._crew: Crew[Job | Lane] = Crew(self._table, self._work, self._flush, self)
        self._alarm = Alarm(WAIT_S)
        """Set while the thread that leads is at work: it may have to be deposed."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Somebody has begun to lead."""
        self._reading = threading.Lock()
        """Held from reading calls until they are put, so that those of one stream keep their order."""
        self._unsent_since = 0.0
        self._line = Uplink(runtime, self._attached)

    def run(self) -> NoReturn:
        """Serve until the broker, a signal or the lease ends it."""
        sys.setswitchinterval(SWITCH_S)
        self._take_signals()
        threading.Thread(target=self._keep_line, name="link", daemon=True).start()
        self._setup_came.wait()
        if not self._leave.is_set():
            assert self._setup is not None, "it came"
            self._load(self._setup)
        self._leave.wait()
        self._end()

    # ------------------------------------------------------------ begin and end

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())

    def _load(self, setup: link.Setup) -> None:
        began = time.monotonic()
        confine.limit_memory(setup.memory)
        if setup.folder is not None:
            self._folder = Folder(setup.folder, lambda: self._line.send(link.Stale()))
        registry = Registry(setup)
        self._take_signals()  # a plugin may have taken them
        confine.tell_faults()  # not before: the last line of the log names what was being loaded
        self._lanes = Lanes(registry.plugins)
        gc.collect()
        gc.freeze()  # the collector need not walk what stays
        self._registry = registry
        self._line.setup = setup
        self._line.send(link.Offers(registry.told))
        confine.keep_secrets()
        bad = sum(1 for plugin in registry.told if plugin.problem)
        log.info(
            "host '%s': %d plugins, %d of them unfit, in %.0f ms",
            self._name, len(registry.told), bad, (time.monotonic() - began) * 1000,
        )  # fmt: skip
        if self._folder is not None:
            self._folder.start()

    def _attached(self) -> None:
        """A broker may know nothing of this host, and of no stream."""
        self._lanes.clear()
        if self._registry is not None:
            self._line.send(link.Offers(self._registry.told))
            if self._folder is not None and self._folder.changed:
                self._line.send(link.Stale())

    def _stop(self) -> None:
        if self._leave.is_set():
            return
        # Whatever comes, and be it a plugin that never ends its import, this process does within its time.
        threading.Thread(target=_exit_after, args=(DRAIN_S + ATEXIT_S + 0.5, self._table), daemon=True).start()
        self._leave.set()
        self._setup_came.set()

    def _end(self) -> NoReturn:
        """Let what runs come to its end, for a moment; nothing that hangs can keep the process."""
        until = time.monotonic() + DRAIN_S
        while self._crew.busy and time.monotonic() < until:
            time.sleep(0.005)
        self._flush()
        # Plugins may have files to close. Threads that hang would be waited for by the interpreter, not by os._exit.
        ending = threading.Thread(target=_run_exit_functions, daemon=True)
        ending.start()
        ending.join(ATEXIT_S)
        self._table.remove()
        os._exit(0)

    # ------------------------------------------------------------ the link

    def _keep_line(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            _die(error)

    def _serve(self) -> None:
        line, crew = self._line, self._crew
        tick_at = 0.0
        while not line.expired:
            now = time.monotonic()
            if now >= tick_at:
                line.tick()
                tick_at = now + line.tick_s
            left = max(0.0, tick_at - time.monotonic())
            if crew.led:
                self._watch(left)
                continue
            busy = crew.waiting or line.waiting
            line.wait(min(left, WAIT_S) if busy else left, self._bell)
            self._read()
            if busy:
                crew.look()
                line.flush()
        log.info("host '%s' leaves: no broker answered", self._name)
        self._stop()

    def _watch(self, seconds: float) -> None:
        """Wait, as somebody leads, until that has to end, or for so long."""
        poll = select.poll()
        for fd in (self._alarm.fd, self._bell):
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(seconds * 1000):
            if fd == self._bell:
                os.eventfd_read(fd)
            elif self._crew.depose():
                self._alarm.set()
            else:
                self._alarm.clear()

    def wait(self, fresh: bool) -> None:
        """Wait for calls, as the thread that leads."""
        try:
            self._alarm.clear()
            if fresh:
                os.eventfd_write(self._bell, 1)
            self._line.wait(None)
        except BaseException as error:
            _die(error)

    def take(self) -> None:
        """Read calls, as the thread that leads."""
        try:
            self._read()
            if self._crew.waiting:
                self._alarm.set()
        except BaseException as error:
            _die(error)

    def _read(self) -> None:
        with self._reading:
            for message in self._line.receive():
                self._receive(message)

    def _receive(self, message: link.ToPeer) -> None:
        match message:
            case link.HookCalls():
                self._calls(message)
            case link.Setup():
                if self._setup is None:
                    self._setup = message
                    self._setup_came.set()
                elif message != self._setup:
                    log.error("told to run other plugins: a host runs what it was told first")
            case link.Stop():
                log.info("host '%s' leaves: asked", self._name)
                self._stop()
            case _:
                log.error("message that is for no hook host: %s", type(message).__name__)

    def _calls(self, message: link.HookCalls) -> None:
        asker = self._line.connection
        items: list[Job | Lane] = []
        for call in message.calls:
            if call.point != "chunk":
                items.append((call, asker))
            elif (lane := self._lanes.put(call, asker)) is not None:
                items.append(lane)
        for id in message.ended:
            self._lanes.forget(id)
        if items:
            self._crew.put(*items)

    # ------------------------------------------------------------ calls, on threads of the crew

    def _work(self, item: Job | Lane, slot: Slot) -> None:
        try:
            if isinstance(item, Lane):
                while (got := self._lanes.take(item)) is not None:
                    call, asker = got
                    self._answer(call, asker, slot, item)
                    self._lanes.done(item, call)
            else:
                self._answer(*item, slot, None)
        except MemoryError:
            os._exit(NO_MEMORY)

    def _answer(self, call: HookCall, asker: Dealer | None, slot: Slot, lane: Lane | None) -> None:
        assert self._registry is not None, "calls come after Offers"

        def at(index: int) -> None:
            slot.note(call.call, index)

        try:
            if lane is not None:
                reply = lane.stream.run(call, at)
            else:
                reply = runner.run(self._registry.plugins, call, at)
            packed = _encode(reply)
        except MemoryError:
            raise
        except Exception as error:  # ours: what plugins raise is a result
            log.error("the hook host failed at a call: %s", type(error).__name__)
            why = f"the hook host failed: {type(error).__name__}"
            packed = _encode(HookReply(call.call, [HookResult(name, "error", why) for name in call.hooks]))
        line, now = self._line, time.monotonic()
        if not line.waiting:
            self._unsent_since = now
        line.answer(asker, packed)
        if now - self._unsent_since > TURN_S:
            line.flush()

    def _flush(self) -> None:
        self._line.flush()


def _die(error: BaseException) -> NoReturn:
    """End the process at an error of the host itself."""
    if isinstance(error, MemoryError):  # what a plugin allocates leaves nothing: the table names who was at work
        os._exit(NO_MEMORY)
    log.critical("the hook host is at its end", exc_info=error)
    os._exit(1)


def _run_exit_functions() -> None:
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()


def _exit_after(seconds: float, table: Table) -> None:
    time.sleep(seconds)
    table.remove()
    os._exit(0)
