"""The worker's main: load the engine, serve the broker's requests, leave without a trace."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from ingle.wire.schema import BODIES

from ingled import link, remains
from ingled.log_end import tail
from ingled.worker import group
from ingled.worker.adapting import Adapting
from ingled.worker.catalog import make_engine
from ingled.worker.engine import Delta, Engine, EngineDead, EngineHangs, EngineRefused, LoadError, Request
from ingled.worker.footprint import Footprint
from ingled.worker.reports import Reports
from ingled.worker.rest import Rest
from ingled.worker.stream import Stream, whole
from ingled.worker.uplink import Uplink

log = logging.getLogger(__name__)

HEALTH_S = 1.0
SHUTDOWN_S = 10.0
ASKED, EXPIRED, DIED, FAILED = "the broker asked for it", "no broker answered", "the engine died", "loading failed"
RESTLESS = "it cannot sleep"


class Worker:
    """One resident model: its engine, its requests and its link to the broker."""

    def __init__(
        self,
        runtime: Path,
        spec: link.Spec,
        folder: Path,
        log_file: Path | None,
        started: float,
        devices: Sequence[int],
        fill: bool,
    ) -> None:
        self._spec = spec
        self._devices = list(devices)
        self._log_file = log_file
        self._started = started
        self._secret_file = runtime / link.SECRET_FILE
        self._folder = folder
        self._engine: Engine = make_engine(spec, folder, log_file)
        self._fill = fill and self._engine.fills
        self._filling = False
        self._info: link.Info | None = None
        self._loading = link.Loading("configuring", 0)
        self._streams: dict[str, Stream] = {}
        self._aborted: dict[str, Stream] = {}
        """Streams that have been told to end, and have not yet."""
        self._open = 0
        """Requests that the engine has and that have not ended."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._stuck = link.Lease(0).stuck
        self._footprint = Footprint()
        self._leave: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        path = str(runtime / link.SOCKET_FILE)
        self._uplink = Uplink(path, self._receive, lambda: self.leave(EXPIRED), self._attach)
        self._adapting = Adapting(self._engine, self._uplink.send, self._die)
        self._rest = Rest(
            self._engine,
            self._uplink.send,
            took=self._footprint.took,
            restless=lambda: self.leave(RESTLESS),
            die=self._die,
        )
        self._reports = Reports(self._engine, self._uplink, self._footprint, self._rest, lambda: self._open > 0)

    def leave(self, why: str) -> None:
        """Let `run` come to its end."""
        if not self._leave.done():
            self._leave.set_result(why)

    async def run(self) -> int:
        """Serve until the broker or the lease ends it; returns the exit status."""
        reports = self._reports
        self._uplink.connect()
        for work in (reports.tick(), reports.measure(), reports.look_at_device(), self._load()):
            self._spawn(work)
        why = await self._leave
        log.info("worker of '%s' leaves: %s", self._spec.model, why)
        if why == ASKED:
            await reports.look_at_memory(anew=True)
        await self._end_tasks()
        if self._info is not None:  # while it loads, there is nothing to end in order: the group is killed
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._engine.shutdown(), SHUTDOWN_S)
        self._uplink.close()
        return 1 if why in (DIED, FAILED, RESTLESS) else 0

    # ------------------------------------------------------------ loading and background

    async def _load(self) -> None:
        try:
            info = await self._engine.load(self._report)
            gc.collect()
            gc.freeze()  # with an engine's modules loaded, a full collection stops the loop for half a second
            gc.set_threshold(20_000, 20, 20)  # chunks that wait for their readers are no garbage, and make no cycles
            load_s = round(time.monotonic() - self._started, 3)
            taken = await self._footprint.loaded(info.taken_bytes)
            self._filling = self._fill
            filled = self._fill and await self._engine.fill(self._report)
        except Exception as error:
            reason = str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}"
            log.error("'%s' cannot be loaded: %s", self._spec.model, reason, exc_info=error)
            lines = list(tail(self._log_file)) if self._log_file else []
            self._uplink.send(link.LoadFailed(reason, lines, self._engine.killed()))
            self.leave(FAILED)
            return
        self._footprint.serves()
        self._info = self._rest.info = msgspec.structs.replace(info, load_s=load_s, taken_bytes=taken, filled=filled)
        remains.note(self._folder, [os.getpid(), *group.others()])
        self._uplink.send(link.Ready(self._info))
        self._spawn(self._reports.look_at_memory())
        self._spawn(self._adapting.run())
        await self._watch()

    def _report(self, phase: str, percent: int) -> None:
        if self._fill:  # of a first load it takes about the other half
            percent = (percent + 100 * self._filling) // 2
        news = link.Loading(phase, percent)
        if news != self._loading:
            self._loading = news
            self._uplink.send(news)

    async def _watch(self) -> None:
        while True:
            try:
                if not self._rest.moving:
                    await self._engine.health(self._stuck)
            except EngineDead as error:
                log.error("%s", error)
                if isinstance(error, EngineHangs):
                    group.show_stacks()
                    await asyncio.sleep(link.STACKS_S)
                self._die(str(error))
                return
            await asyncio.sleep(HEALTH_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task of the worker failed", exc_info=error)

    # ------------------------------------------------------------ messages

    def _attach(self) -> None:
        """Say who this is and what it holds; the chunks and ends that nobody has confirmed follow."""
        self._uplink.flush()
        try:
            secret = self._secret_file.read_text().strip()  # not that of our start: a nursery may have removed it
        except OSError as error:
            log.error("the broker cannot be told who this is: %s", error)
            return
        streams = list(self._streams.values())
        held = [stream.account() for stream in streams]
        self._uplink.send(link.Attach(secret, "worker", os.getpid(), spec=self._spec, held=held, devices=self._devices))
        for stream in streams:
            for piece in stream.held:
                self._uplink.piece(piece)
            if stream.end is not None:
                self._uplink.send(stream.end)
            elif stream.freed is not None:
                self._uplink.send(stream.freed)
        self._uplink.send(self._rest.state(self._loading))
        self._adapting.attach()

    def _receive(self, message: link.ToPeer) -> None:
        match message:
            case link.Who():
                self._attach()
            case link.Lease():
                self._stuck = message.stuck
                self._engine.measure(message.metrics)
            case link.Run():
                self._run(message)
            case link.Begin():
                begun = self._streams.get(message.id)
                if begun is not None and begun.request is not None:
                    self._begin(begun, replace(begun.request, priority=message.priority))
            case link.Credit():
                for request_id, (chunks, ack) in message.grants.items():
                    if stream := self._streams.get(request_id):
                        stream.grant(chunks, ack)
                        self._advance(stream)
            case link.Abort():
                for request_id in message.ids:
                    aborted = self._drop(request_id)
                    if aborted is not None and aborted.answer is not None and aborted.end is None:
                        aborted.abort()
                        self._aborted[request_id] = aborted
                        aborted.answer.abort()
                        self._advance(aborted)
            case link.Release():
                for request_id in message.ids:
                    self._drop(request_id)
                    if (taken_back := self._aborted.pop(request_id, None)) is not None:
                        taken_back.muted = True
            case link.Measure():
                self._uplink.send(link.Measured(message.ref, self._engine.families()))
            case link.Sleep():
                self._spawn(self._rest.sleep(message.level))
            case link.Wake():
                self._spawn(self._rest.wake())
            case link.Check():
                self._spawn(self._rest.check())
            case link.AddAdapter() | link.DropAdapter():
                self._adapting.change(message)
            case link.Stop():
                self.leave(ASKED)
            case _:
                log.error("a worker does not understand %s", type(message).__name__)

    def _run(self, message: link.Run) -> None:
        if message.id in self._streams:
            log.error("request %s runs already", message.id)
            return
        stream = self._streams[message.id] = Stream(message)
        try:
            body = msgspec.msgpack.decode(message.body, type=BODIES[message.op])
        except (KeyError, ValueError) as error:
            self._refuse(stream, EngineRefused("bad_value", f"body: {error}", "see docs/protocol.md", at="body"))
            return
        if self._info is None:
            text = f"'{self._spec.model}' still loads"
            self._refuse(stream, EngineRefused("conflict", text, "try again", fault="daemon"))
            return
        self._reports.works()
        tokens, offset = tuple(message.tokens), message.offset
        how = (message.stream, message.salt, message.priority, tokens, offset, message.adapter)
        request = Request(message.id, body, *how)
        if message.waits:
            stream.request = request
            self._engine.hold(request)
        else:
            self._begin(stream, request)

    def _drop(self, id: str) -> Stream | None:
        """Forget a request, which may be held for later."""
        stream = self._streams.pop(id, None)
        if stream is not None and stream.request is not None:
            self._engine.forget(id)
        return stream

    def _begin(self, stream: Stream, request: Request) -> None:
        stream.request = None
        self._open += 1
        stream.answer = self._engine.run(request, partial(self._advance, stream))

    # ------------------------------------------------------------ one request

    def _advance(self, stream: Stream) -> None:
        """Send what has been generated, as far as the credit allows, and the end behind it."""
        if stream.end is not None:
            return
        try:
            if (last := stream.advance(self._uplink.piece)) is not None:
                self._end(stream, last)
            elif stream.freed is None and stream.answer is not None and (counts := stream.answer.counts) is not None:
                stream.freed = link.Freed(stream.id, *counts)
                self._uplink.send(stream.freed)
        except EngineRefused as error:
            self._refuse(stream, error)
        except EngineDead as error:
            self._die(str(error))
        except Exception:
            log.exception("request %s failed", stream.id)
            if stream.answer is not None:
                stream.answer.close()
            hint = "see the worker's log; please report it"
            self._refuse(stream, EngineRefused("internal", "the worker failed at this", hint, fault="worker"))

    def _end(self, stream: Stream, last: Delta) -> None:
        end = last.end
        assert end is not None
        if end.finish == "abort" and not stream.aborted:  # a signal to the whole group reached the engine first
            self._die(f"the engine of '{self._spec.model}' was stopped")
            return
        finish, stop = ("abort", None) if stream.aborted else (end.finish, end.stop)
        counts = (end.prompt, end.cached, end.completion)
        is_whole = not (stream.streams or finish == "abort" or last.vectors)
        result = whole(last) if is_whole else None
        ended = link.Ended(stream.id, finish, *counts, round(end.first_ms, 3), stop, result, last.vectors)
        self._over(stream, ended)

    def _refuse(self, stream: Stream, error: EngineRefused) -> None:
        failed = link.RunFailed(stream.id, error.code, error.message, error.hint, error.fault, error.at)
        self._over(stream, failed)

    def _over(self, stream: Stream, end: link.Ended | link.RunFailed) -> None:
        """Tell the end, and hold it until it is released."""
        stream.end = end
        if stream.answer is not None:
            self._open -= 1
            stream.answer = None  # its news lead back to the stream: a ring that only the garbage collector would find
        if not stream.muted:
            self._aborted.pop(stream.id, None)
            self._uplink.after(end)
        if self._open == 0 and not self._leave.done():
            self._reports.idles()

    def _die(self, why: str) -> None:
        """Leave, and let the broker know before the process is gone, so that it gives us nothing more."""
        if not self._leave.done():
            self._uplink.send(link.EngineDied(why, self._engine.killed()))
            self.leave(DIED)

    async def _end_tasks(self) -> None:
        for stream in self._streams.values():
            if stream.answer is not None:
                stream.answer.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)


async def _main(make: Callable[[], Worker]) -> int:
    worker = make()  # it belongs to the loop
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.leave, ASKED)
    return await worker.run()


def serve(
    runtime: Path,
    spec: link.Spec,
    folder: Path,
    log_file: Path | None = None,
    devices: Sequence[int] = (0,),
    *,
    fill: bool = False,
) -> int:
    """Run a worker in this process, which leads its own group; returns the exit status.

    With `fill` its largest batch is run once before it serves.

    `folder` is private to this worker and is removed at the end, as is whatever is left of the process group.
    """
    started = time.monotonic()
    try:
        return _run_loop(_main(partial(Worker, runtime, spec, folder, log_file, started, devices, fill)))
    finally:
        left = group.kill_others()
        if left:
            log.warning("killed what was left of the worker's group: %s", left)
        remains.remove(folder)


def _run_loop(main: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
