"""The private socket: workers and the nursery, by lease. They connect, attach, and are known by process id."""

import asyncio
import hmac
import logging
import os
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import assert_never

from ingled import link
from ingled.broker import carried, service
from ingled.broker.hook_front import HookFront
from ingled.broker.host_link import HostLink, read
from ingled.broker.host_unit import HostUnit
from ingled.broker.hosts import Hosts
from ingled.broker.nursery_link import NurseryLink
from ingled.broker.orders import Orders
from ingled.broker.peer import Peer
from ingled.broker.router import Router
from ingled.broker.salts import salts
from ingled.broker.worker import Worker
from ingled.broker.worker_ends import WorkerEnds
from ingled.config import Config
from ingled.core import events as on
from ingled.core.flow import Flow, Sends
from ingled.journal import about

log = logging.getLogger(__name__)


def lease(config: Config) -> link.Lease:
    """Return by which terms workers, nursery and hosts live."""
    daemon = config.daemon
    # A broker that hangs is replaced when the watchdog has waited: until then, what is warm must live.
    grace = max(daemon.adopt_grace, 2 * (service.watchdog_s() or 0.0))
    return link.Lease(grace, daemon.stuck, config.metrics is not None)


class LinkFront:
    """Everything between the private ROUTER and the core."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        meet: Callable[[int, Callable[[], None]], None],
        flow: Flow,
        secret: str,
        lease: link.Lease,
        specs: dict[str, link.Spec],
        folders: Path,
        hosts: Hosts,
        host_unit: HostUnit | None,
        host_secret: str,
        dispatch: Callable[[on.Event], None],
        send_text: Callable[[Sends], None],
    ) -> None:
        self._loop, self._flow, self._secret, self._lease_terms = loop, flow, secret, lease
        self._specs, self._dispatch, self._send_text = specs, dispatch, send_text
        self.router = Router(
            loop, self._receive, self._gone, meet=meet, frame_bytes=link.FRAME_BYTES, backlog_bytes=link.FRAME_BYTES
        )
        self.orders = Orders(loop, self._to)
        self.salt = salts(secret)
        self.host_link = HostLink(
            loop,
            hosts,
            shared=self.router,
            unit=host_unit,
            secret=host_secret,
            meet=meet,
            lease=lambda: self._lease_terms,
        )
        self._hosts = hosts
        self.hooks: HookFront
        """Set by the owner, before anything is received."""
        self.workers: dict[str, Worker] = {}
        """Workers that have attached and whose process lives, by its id in words."""
        self.nursery = NurseryLink(lambda peer, message: self.router.send(peer, link.encode(message)))
        self._by_peer: dict[int, Worker] = {}
        self.ends = WorkerEnds(loop, self.nursery, folders, self._ended, dispatch)
        self._asked: set[int] = set()
        """Peers that have been asked who they are, and have not said it yet."""
        self._measures: dict[int, asyncio.Future[list[link.Family]]] = {}
        self._refs = count()
        self.on_ready: Callable[[Worker, link.Woke | None], None] = lambda worker, woke: None
        self.on_room: Callable[[Worker, list[link.Gpu]], None] = lambda worker, gpus: None
        self.on_asleep: Callable[[Worker], None] = lambda worker: None
        self.on_sleep_failed: Callable[[Worker, str], None] = lambda worker, reason: None
        self.on_stats: Callable[[Worker], None] = lambda worker: None
        self.to_fill: Callable[[str], bool] = lambda model: False
        """Tells whether a model's largest batch is to be run when it is loaded."""

    def live_by(self, terms: link.Lease) -> None:
        """Have peers live by other terms: each is told when it next says that it lives."""
        self._lease_terms = terms

    # ------------------------------------------------------------ out

    def run(self, worker: str, message: link.Run) -> None:
        """Give a request to a worker."""
        self._to(worker, message)

    def begin(self, worker: str, id: str, priority: int) -> None:
        """Have a worker run a request that it holds."""
        self._to(worker, link.Begin(id, priority))

    def adapt(self, worker: str, message: link.AddAdapter | link.DropAdapter) -> None:
        """Have a worker load or forget an adapter."""
        self._to(worker, message)

    def sleep(self, worker: str, level: int) -> None:
        """Have a worker's engine sleep."""
        self.orders.tell(worker)  # what is taken back from it
        self._to(worker, link.Sleep(level))

    def wake(self, worker: str) -> None:
        """Have a worker's engine wake."""
        self._to(worker, link.Wake())

    def check(self, worker: str) -> None:
        """Have a worker see that its engine answers as before."""
        self.orders.tell(worker)  # what is taken back from it
        self._to(worker, link.Check())

    def start(self, model: str, devices: Sequence[int], visible: bool) -> None:
        """Have the nursery fork a worker on these devices, which are GPUs if they are to be `visible` alone.

        Without a nursery, its attach asks for this again.
        """
        self.nursery.tell(link.Start(self._specs[model], tuple(devices), visible, self.to_fill(model)))

    async def measured(self, seconds: float) -> dict[str, list[link.Family]]:
        """Return what the engines of loaded models have counted, by model; who takes longer is left out."""
        asked: dict[str, asyncio.Future[list[link.Family]]] = {}
        refs = []
        for name, worker in self.workers.items():
            if worker.info is not None:
                refs.append(ref := next(self._refs))
                asked[worker.model] = self._measures[ref] = self._loop.create_future()
                self._to(name, link.Measure(ref))
        if asked:
            await asyncio.wait(asked.values(), timeout=seconds)
        for ref in refs:
            self._measures.pop(ref, None)
        return {model: told.result() for model, told in asked.items() if told.done()}

    def stop(self, worker: str | None, pid: int | None) -> None:
        """Have a worker leave: ask it, and have the nursery end its process group."""
        if worker is not None:
            self._to(worker, link.Stop())
        if pid is not None:
            self.ends.stop(pid)

    def of(self, model: str) -> Worker | None:
        """Return the attached worker of a model."""
        return next((worker for worker in self.workers.values() if worker.model == model), None)

    def _to(self, worker: str, message: link.ToPeer) -> None:
        known = self.workers.get(worker)
        if known is not None:
            self.router.send(known.peer, link.encode(message))

    # ------------------------------------------------------------ in

    def _receive(self, peer: Peer, frames: list[bytes]) -> None:
        if (message := read(peer, frames[0])) is None:
            return
        if isinstance(message, link.Attach):
            self._attach(peer, message)
            return
        if not self.host_link.apart and self.host_link.heard(peer, message):
            return
        worker = self._by_peer.get(peer.number)
        if worker is None and peer is not self.nursery.peer:
            self._who(peer)
            return
        now = self._loop.time()
        if worker is not None:
            worker.heard_at = now
        match message:
            case link.EngineDied():
                if worker is not None:
                    why = self._why(worker, message)
                    self._dispatch(on.EngineDied(now, worker.model, worker.pid, why))
            case link.Chunks():
                self.take_text(message.pieces)
            case link.Alive():
                self._lease(peer)
            case link.Ended():
                m = message
                self._dispatch(
                    on.RunEnded(
                        now, m.id, m.finish, m.prompt, m.cached, m.completion, m.first_ms, m.stop, m.result, m.vectors
                    )
                )
            case link.Freed():
                self._dispatch(on.PlaceFreed(now, message.id, message.prompt, message.completion))
            case link.RunFailed():
                m2 = message
                self._dispatch(on.RunFailed(now, m2.id, m2.code, m2.message, m2.hint, m2.fault, m2.at))
            case link.Loading():
                if worker is None:
                    self.nursery.loading(message)
                    if message.phase != "ready":
                        self._dispatch(on.NurseryLoading(now, message.percent))
                else:
                    worker.settled = True
                    self._dispatch(on.WorkerLoading(now, worker.model, worker.pid, message.phase, message.percent))
            case link.Ready():
                if worker is not None:
                    worker.info, worker.busy_at, worker.settled = message.info, now, True
                    worker.asleep = None
                    self.on_ready(worker, message.woke)
                    info = message.info
                    self._dispatch(on.WorkerReady(now, worker.model, worker.pid, info.max_running, info.load_s))
            case link.Room():
                if worker is not None:
                    self.on_room(worker, message.gpus)
            case link.Asleep():
                if worker is not None:
                    worker.info, worker.asleep, worker.settled = message.info, message, True
                    self.on_asleep(worker)
                    asleep = on.WorkerAsleep(now, worker.model, worker.pid, message.level, message.left_bytes)
                    self._dispatch(asleep)
            case link.SleepFailed():
                if worker is not None:
                    self.on_sleep_failed(worker, message.reason)
                    self._dispatch(on.SleepFailed(now, worker.model, worker.pid, message.reason))
            case link.LoadFailed():
                if worker is not None:
                    why = self._why(worker, message)
                    self._dispatch(on.LoadFailed(now, worker.model, worker.pid, why, tuple(message.log)))
            case link.AdapterReady():
                if worker is not None:
                    self._dispatch(on.AdapterReady(now, message.model, worker.pid))
            case link.AdapterFailed():
                if worker is not None:
                    self._dispatch(on.AdapterFailed(now, message.model, worker.pid, message.reason))
            case link.AdapterGone():
                if worker is not None:
                    self._dispatch(on.AdapterGone(now, message.model, worker.pid))
            case link.Stats():
                if worker is not None:
                    self._stats(now, worker, message)
            case link.Forked():
                self.ends.watch(message.model, message.pid)
                self._dispatch(on.WorkerForked(now, message.model, message.pid))
            case link.Exited():
                self.ends.exited(message)
            case link.Planned():
                self.nursery.planned(message)
            case link.Measured():
                told = self._measures.pop(message.ref, None)
                if told is not None and not told.done():
                    told.set_result(message.families)
            case link.Offers() | link.HookReplies() | link.Stale():
                log.error("private socket: pid %d is no hook host", peer.pid)
            case link.HostStarted() | link.HostNotStarted() | link.HostEnded():
                log.error("private socket: pid %d is no keeper of hook hosts", peer.pid)
            case _:
                assert_never(message)

    def _who(self, peer: Peer) -> None:
        """Ask a peer to attach, once: what it sends meanwhile came before its answer, and asks nothing."""
        if peer.number not in self._asked and peer.number not in self._by_peer:
            self._asked.add(peer.number)
            self.router.send(peer, link.encode(link.Who()))

    def _attach(self, peer: Peer, attach: link.Attach) -> None:
        if peer.uid != os.geteuid() or not hmac.compare_digest(attach.secret, self._secret):
            log.error("private socket: pid %d (uid %d) has not the start-up secret", peer.pid, peer.uid)
            return  # who has been asked is not asked again: it would answer the same without end
        self._asked.discard(peer.number)
        now = self._loop.time()
        if attach.version != link.VERSION:
            log.error("pid %d speaks version %d of the private link: it is told to stop", attach.pid, attach.version)
            self.router.send(peer, link.encode(link.Stop()))
            return
        self._lease(peer)
        if attach.role == "nursery":
            if self.nursery.attached(peer, attach.pid):
                self._dispatch(on.NurseryAttached(now))
            return
        if attach.role == "host" and not self.host_link.apart:
            self.host_link.attached(peer, attach)
            return
        if attach.spec is None or not self._wanted(attach.spec, bool(attach.held)):
            self.router.send(peer, link.encode(link.Stop()))
            return
        name, model = str(attach.pid), attach.spec.model
        worker = self.workers.setdefault(name, Worker(model, attach.pid, peer, busy_at=now))
        worker.peer = peer
        self._by_peer[peer.number] = worker
        worker.heard_at = now
        self.ends.watch(model, attach.pid)
        self._dispatch(on.WorkerAttached(now, model, name, attach.pid, tuple(attach.devices)))
        for held in attach.held:
            self._adopt(name, held)
        held_ids = frozenset(held.id for held in attach.held)
        waiting = frozenset(held.id for held in attach.held if held.waits)
        self._dispatch(on.RequestsMissed(now, model, attach.pid, held_ids, waiting))

    def _wanted(self, spec: link.Spec, busy: bool) -> bool:
        """Return whether a worker may stay: its model exists, and it runs what the configuration says by now."""
        now, extra = self._specs.get(spec.model), about(model=spec.model)
        if now is None:
            log.warning("model '%s' is not configured any more: its worker is told to stop", spec.model, extra=extra)
            return False
        if spec != now and not busy:
            log.warning("model '%s' has other options by now: its worker is told to stop", spec.model, extra=extra)
            return False
        if spec != now:
            text = "model '%s' keeps its earlier options until it is unloaded: it has requests"
            log.warning(text, spec.model, extra=extra)
        return True

    def _adopt(self, worker: str, held: link.Held) -> None:
        """Take over a request that a worker holds, unless it is known; what cannot be taken over is ended."""
        if held.id in self._flow.streams:
            return
        try:
            record = carried.unpack(held, worker)
        except ValueError as error:
            log.error(
                "request %s of an earlier broker cannot be taken over: %s", held.id, error, extra=about(request=held.id)
            )
        else:
            self._dispatch(on.RequestAdopted(self._loop.time(), record, held.offset, list(held.tokens)))
        if held.id not in self._flow.streams:
            self._to(worker, link.Abort([held.id]))

    def kill_the_silent(self, seconds: float) -> None:
        """End the process groups of workers that have not said for so long that they live."""
        self._hosts.kill_the_silent()
        now = self._loop.time()
        for worker in self.workers.values():
            if now - worker.heard_at > seconds and worker.pid in self.ends.alive:
                text = "worker %d of '%s' has been silent for %.0f s: killing it; its stacks are in its log"
                log.error(text, worker.pid, worker.model, seconds, extra=about(model=worker.model))
                worker.heard_at = now
                self.ends.kill_hanging(worker.pid)

    def forgive(self, seconds: float) -> None:
        """Do not count time in which the broker itself did not run as the workers' silence."""
        for worker in self.workers.values():
            worker.heard_at += seconds
        self._hosts.forgive(seconds)

    def _lease(self, peer: Peer) -> None:
        self.router.send(peer, link.encode(self._lease_terms))

    def take_text(self, pieces: Sequence[link.Piece]) -> None:
        """Take what has been made of answers, to readers and handlers."""
        sends: Sends = []
        handled: list[tuple[str, str]] = []
        for piece in pieces:
            text = self._flow.chunk(piece.id, piece.offset, piece.size, piece.tokens, piece.payload, sends)
            if text is not None:
                handled.append((piece.id, text))
        self._send_text(sends)
        for id, text in handled:
            self.hooks.text.feed(id, text)

    def _stats(self, now: float, worker: Worker, stats: link.Stats) -> None:
        if worker.stats is not None and now > worker.stats_at:
            tokens = stats.completion_tokens - worker.stats.completion_tokens
            worker.tokens_s = tokens / (now - worker.stats_at)
        if not (stats.running or stats.waiting):
            worker.tokens_s = 0.0
        if worker.stats is None or worker.stats.work != stats.work:  # else it tells of its memory alone
            worker.busy_at = now
        worker.stats, worker.stats_at = stats, now
        self.on_stats(worker)

    # ------------------------------------------------------------ the end of a peer

    def _gone(self, peer: Peer) -> None:
        """A link broke; a worker may come back by itself, its process decides whether it lives."""
        self.host_link.gone(peer)
        self.nursery.gone(peer)
        self._by_peer.pop(peer.number, None)
        self._asked.discard(peer.number)

    def _why(self, worker: Worker, end: link.EngineDied | link.LoadFailed) -> str:
        """Return why an engine has ended."""
        return self.ends.explained(worker.model, worker.pid, end.reason, killed=end.killed)

    def _ended(self, pid: int) -> None:
        """Forget a worker whose process has ended."""
        worker = self.workers.pop(str(pid), None)
        if worker is not None:
            self._by_peer.pop(worker.peer.number, None)

    @property
    def own_pids(self) -> list[int]:
        """Return the processes of the daemon itself: whatever models come and go, they stay."""
        return [os.getpid(), *([self.nursery.pid] if self.nursery.pid else []), *self._hosts.pids()]
