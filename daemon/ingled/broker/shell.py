"""The shell around the core: events go in, and each effect is carried out here, in one `match`."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import msgspec
from ingle.wire.hook_schema import HookReply
from ingle.wire.schema import Call

from ingled import link
from ingled.broker import carried, verbs
from ingled.broker.devices import Devices
from ingled.broker.front import Connection, Front
from ingled.broker.hook_front import HookFront
from ingled.broker.host_children import HostChildren
from ingled.broker.host_unit import HostUnit
from ingled.broker.hosts import Hosts
from ingled.broker.link_front import LinkFront, lease
from ingled.broker.needs import Needs
from ingled.broker.nursery_child import NurseryChild
from ingled.broker.nursery_unit import NurseryUnit
from ingled.broker.peer import Peer
from ingled.broker.people import People
from ingled.broker.place import Place
from ingled.broker.reload import Files
from ingled.broker.subscriptions import Subscriptions
from ingled.broker.suspend import Suspend
from ingled.broker.tasks import Tasks
from ingled.broker.timers import Key, Timers
from ingled.broker.waiting_room import WaitingRoom
from ingled.config import Config
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core.accounts import Accounts
from ingled.core.control import Control
from ingled.core.desk import Limits
from ingled.core.flow import Flow
from ingled.core.naming import Unusable
from ingled.core.pipeline import Rule
from ingled.core.requests import Stage
from ingled.core.residency import IllegalTransition
from ingled.journal import about

if TYPE_CHECKING:
    from ingled.broker.metrics import Metrics
    from ingled.broker.scrape import Scrape

log = logging.getLogger(__name__)
_levels = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_encode = msgspec.msgpack.Encoder().encode


class Shell:
    """All parts of one running daemon."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        *,
        secret: str,
        host_secret: str,
        identity: dict[str, str],
        own_uid: int,
        own_socket: Path | None,
        place: Place,
    ) -> None:
        """`own_socket` is the public socket, unless the service manager made it."""
        self.config, self.loop, self.identity = config, loop, identity
        self.place = place
        self.config_files: Files = {}
        """The files of the configuration, as they were when they were read."""
        self.config_problem: str | None = None
        """Why the last reload has changed nothing."""
        self.owners = frozenset({"uid:0", f"uid:{own_uid}"})
        """Accounts that no rule can lock out."""
        self.started_at = time.monotonic()
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()
        self.handed_over = False
        self.metrics: Metrics | None = None
        self.scrape: Scrape | None = None
        """Where they are served."""
        self.specs = config.specs
        self.adapters = config.adapters
        daemon = config.daemon
        models = [config.fresh(name) for name in config.models]
        limits = Limits(queue=daemon.queue, keep_s=daemon.keep, keep_bytes=daemon.keep_bytes)
        self.flow = Flow()

        def to_host(peer: Peer, message: link.ToPeer) -> None:
            self.workers.host_link.send(peer, message)

        unit = None if place.hosts is None else HostUnit(loop, to_host)
        self.hosts = Hosts(
            loop,
            place.hosts or config.runtime,
            config.setup,
            unit or HostChildren(config.runtime),
            send=to_host,
            dispatch=self.dispatch,
        )
        rules = {name: Rule(hook.account, hook.order, hook.scope_all) for name, hook in config.hooks.items()}
        awaited = ["group:main"] if self.hosts.needed else []
        self.control = Control(
            models,
            config.default_model,
            limits,
            self.flow.held,
            self.flow.made,
            rules,
            awaited,
            config.devices,
            daemon.patience,
            daemon.memory_wait,
        )
        self.timers = Timers(loop, self._timer)
        self.tasks = Tasks()
        self.subscriptions = Subscriptions()
        self.people = People(loop, Accounts(self.owners, config.access))
        self._pending: deque[do.Effect] = deque()
        self._performing = False
        self.front = Front(
            loop,
            meet=self.people.meet,
            flow=self.flow,
            subscriptions=self.subscriptions,
            dispatch=self.dispatch,
            grant=self._grant,
            delivered=self._delivered,
            call=self._call,
            replied=self._hook_replied,
            verbs=list(verbs.VERBS),
            daemon=identity,
            rights=self.people.rights,
        )
        self.workers = LinkFront(
            loop,
            meet=self.people.meet,
            flow=self.flow,
            secret=secret,
            lease=lease(config),
            specs=self.specs,
            folders=config.runtime / "workers",
            hosts=self.hosts,
            host_unit=unit,
            host_secret=host_secret,
            dispatch=self.dispatch,
            send_text=self.front.send_all,
        )
        self.hooks = self.workers.hooks = self.workers.host_link.hooks = HookFront(
            loop,
            self.flow,
            self.hosts,
            dispatch=self.dispatch,
            perform=self._perform_all,
            send=self.front.send,
            send_text=self.front.send_all,
            grant=self._grant,
            where=self._provider_of,
        )
        self.nursery: NurseryChild | NurseryUnit
        if place.nursery_is_unit:
            self.nursery = NurseryUnit(
                loop, config.runtime, self.workers.nursery.connected, self.workers.nursery.dismiss, self._nursery_failed
            )
        else:
            self.nursery = NurseryChild(
                loop, config.runtime, config.engine, own_socket, self.workers.nursery.was_ready, self._nursery_failed
            )
        known = self.control.models
        self.devices = Devices(config, loop, self.workers, known, self.dispatch)
        self.needs = Needs(config, self.specs, loop, self.workers, self.devices, known, self.dispatch)
        self.suspend = Suspend(loop, self.dispatch, self.devices.survival)
        self.waiting_room = WaitingRoom(config.runtime)
        self.on_model: Callable[[], None] = lambda: None
        """Is called when a model has another state."""

    @property
    def running(self) -> int:
        """Return how many requests have not ended."""
        requests = self.control.requests
        return len(requests.records) - requests.stages[Stage.KEPT]

    def hand_over(self) -> None:
        """Leave at once, with workers and nursery running, for the daemon that takes over."""
        self.handed_over = True
        self.draining.set()
        self.drained.set()

    def drain(self) -> None:
        """Refuse new requests; `drained` is set when the running ones have ended."""
        if not self.control.draining:
            self.draining.set()
            self.dispatch(on.DrainAsked(self.loop.time()))

    def dispatch(self, event: on.Event) -> None:
        """Give an event to the core and carry out what it wants, in order."""
        try:
            self._pending.extend(self.control.handle(event))
        except IllegalTransition as error:
            log.exception("a bug of ingled")
            self._pending.extend(self.control.abandon(self.loop.time(), error.model, str(error)))
        if self._performing:
            return
        self._performing = True
        try:
            while self._pending:
                self._perform(self._pending.popleft())
        finally:
            self._performing = False

    def _perform_all(self, effects: Sequence[do.Effect]) -> None:
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: do.Effect) -> None:
        match effect:  # what every request has comes first: each case before it is looked at
            case do.Send():
                self.workers.orders.settle()
                self.front.send(effect.conn, effect.message)
            case do.Publish():
                for conn, event in self.subscriptions.publish(effect.topic, effect.value, effect.account):
                    self.front.send(conn, event)
                if effect.topic == "model":
                    self.on_model()
                    if self.metrics is not None:
                        self.metrics.model_changed(effect.value["model"], effect.value["state"])
                elif log.isEnabledFor(logging.DEBUG):
                    _log_event(effect)
            case do.ClearTimer():
                self.timers.clear(effect.key)
            case do.OpenStream():
                self.flow.open(effect.id, effect.account, effect.conn, effect.credit, effect.keep)
            case do.RunRequest() | do.HoldRequest():
                record, stream = effect.record, self.flow.run(effect.record.id, effect.worker)
                salt = self.workers.salt(record.account)
                run = link.Run(
                    record.id,
                    record.op,
                    record.body,
                    record.stream,
                    stream.allowed,
                    salt,
                    carried.pack(record),
                    record.priority,
                    stream.tokens,
                    stream.made,
                    [link.Piece(record.id, at, size, [], message) for at, size, message in stream.of_engine],
                    isinstance(effect, do.HoldRequest),
                    record.model if record.model in self.adapters else "",
                )
                self.workers.run(effect.worker, run)
                self.waiting_room.leave(record.id)
            case do.CloseStream():
                ending = self.control.requests.records.get(effect.id)
                if self.metrics is not None and ending is not None:
                    self.metrics.ended(ending, effect.end, self.loop.time())
                if ending is None or ending.answer is None:  # else nobody but us has its text, until its reader has
                    self.waiting_room.leave(effect.id)
                sends, ended = self.flow.close(effect.id, _encode(effect.end))
                self.front.send_all(sends)
                if ended:
                    self._delivered(effect.id)
            case do.CutStream():
                self.waiting_room.leave(effect.id)
                reader = self.flow.cut(effect.id)
                if reader is not None and effect.end is not None:
                    self.front.send(reader, effect.end)
            case do.ReleaseRequest():
                self.workers.orders.release(effect.worker, effect.id)
            case do.BeginRequest():
                self.workers.begin(effect.worker, effect.id, effect.priority)
            case do.AbortRequest():
                self.workers.orders.abort(effect.worker, effect.id)
            case do.AdoptStream():
                record = effect.record
                self.flow.adopt(record.id, record.account, record.worker, record.detach, effect.offset, effect.tokens)
            case do.KeepWaiting():
                record = effect.record
                if record.worker is None and (there := self.flow.streams.get(record.id)) is not None:
                    self.waiting_room.enter(carried.waits(record, there))
            case do.ReplayText():
                pieces = [link.Piece(effect.id, at, size, [], message) for at, size, message in effect.text]
                self.workers.take_text(pieces)
            case do.DetachStream():
                self.flow.detach(effect.id)
            case do.AttachStream():
                self.front.attached(effect.id, effect.conn, effect.ref, effect.offset, effect.credit)
            case do.CallHooks():
                self.hooks.call(effect)
            case do.OpenStages():
                self.hooks.text.open(effect.record, effect.hops)
            case do.FeedText():
                self.hooks.text.give(effect.id, effect.text)
            case do.DeliverText():
                self.hooks.text.deliver(effect.id, effect.text)
            case do.FinishStages():
                self.hooks.text.finish(effect.id)
            case do.ProviderGone():
                self.hooks.provider_gone(effect.provider)
            case do.ForgetHooks():
                self.hooks.forget(effect.id)
            case do.StartWorker():
                self.workers.start(effect.model, effect.on, self.devices.several)
            case do.ForgetModel():
                self.specs.pop(effect.model, None)
                self.adapters.pop(effect.model, None)
                self.needs.forget(effect.model)
            case do.AddAdapter():
                self.workers.adapt(effect.worker, self.adapters[effect.model])
            case do.DropAdapter():
                self.workers.adapt(effect.worker, link.DropAdapter(effect.model))
            case do.StopWorker():
                self.workers.stop(effect.worker, effect.pid)
            case do.SleepWorker():
                self.workers.sleep(effect.worker, effect.level)
            case do.WakeWorker():
                self.workers.wake(effect.worker)
            case do.CheckWorker():
                self.workers.check(effect.worker)
            case do.AllowSuspend():
                self.suspend.allow()
            case do.SetTimer():
                self.timers.set(effect.key, effect.at)
            case do.Log():
                extra = about(model=effect.model, hook=effect.hook)
                log.log(_levels[effect.level], "%s", effect.text, extra=extra)
            case do.Continue():
                self.loop.call_soon(self._go_on, effect.event)
            case do.Drained():
                self.drained.set()
            case _:
                assert_never(effect)

    def _go_on(self, event: on.ConnectionGone) -> None:
        self.dispatch(msgspec.structs.replace(event, now=self.loop.time()))

    def _grant(self, id: str, n: int, ack: int) -> None:
        stream = self.flow.streams[id]
        if stream.worker is not None:
            self.workers.orders.grant(stream.worker, id, n, 0 if stream.keep or stream.watched else ack)

    def _provider_of(self, key: str) -> str | None:
        entry = self.control.pipeline.registry.entries.get(key)
        return None if entry is None else entry.provider

    def _hook_replied(self, provider: str, reply: HookReply) -> bool:
        return self.hooks.reply(provider, reply)

    def _delivered(self, id: str) -> None:
        self.dispatch(on.Delivered(self.loop.time(), id))

    def _timer(self, key: Key) -> None:
        self.dispatch(on.TimerFired(self.loop.time(), key))

    def usable(self, connection: Connection, ref: int, asked: str) -> str | None:
        """Return the model that a call is about; if there is none for this account, the call is answered with that."""
        found = self.control.names.usable(asked, connection.account, connection.rights)
        if isinstance(found, Unusable):
            self.front.fail(connection.number, ref, *found, at="args.model")
            return None
        return found

    def _call(self, connection: Connection, call: Call) -> None:
        verbs.answer(self, connection, call)

    def _nursery_failed(self, why: str, lines: tuple[str, ...]) -> None:
        self.needs.asking.failed(why)
        self.dispatch(on.NurseryFailed(self.loop.time(), why, lines))


def _log_event(event: do.Publish) -> None:
    """Log what has happened to a request or a hook; of a hook not why, because that may quote a prompt."""
    value = event.value
    if event.topic == "request":
        extra = about(request=value["id"], model=value["model"], account=value["account"])
        log.debug(
            "request %s of %s for '%s': %s", value["id"], value["account"], value["model"], value["state"], extra=extra
        )
    elif event.topic == "hook":
        extra = about(hook=value["hook"], account=value["account"] or "")
        log.debug("hook '%s' of %s: %s", value["hook"], value["account"] or "the daemon", value["state"], extra=extra)
