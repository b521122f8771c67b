"""The hook hosts: which of them takes the calls for which plugins, what replaces it, and what becomes of its plugins.

A host outlives the broker by its lease, as workers do. A fresh host takes over from the one before it when it has told
what it offers; the one before it leaves when nothing is with it any more. A plugin that brought its host down twice
gets a host of its own.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingled import link
from ingled.broker.broken_plugins import BrokenPlugins
from ingled.broker.first_plugin import FirstPlugin
from ingled.broker.host import Host, Mail
from ingled.broker.host_processes import START_S, HostProcesses, Starter
from ingled.broker.judge import DEAD_S, Judge, import_that_ended
from ingled.broker.peer import Peer
from ingled.broker.plugin_entries import entries, stand_ins
from ingled.core import events as on
from ingled.journal import about
from ingled.processes import runs

log = logging.getLogger(__name__)

MAIN = "main"
STOP_S = 3.0
TRIES = 3
"""Starts in a row that may fail before the plugins count as broken."""


@dataclass(slots=True)
class Group:
    """The plugins that share a host, and their hosts."""

    current: Host | None = None
    fresh: Host | None = None
    starting: bool = False
    """A fresh one has been ordered."""
    failures: int = 0
    again: bool = False
    """Something changed while a fresh host was starting."""

    @property
    def coming(self) -> bool:
        """Return whether a fresh host is on its way."""
        return self.starting or self.fresh is not None


class Hosts:
    """All hook hosts of the daemon."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: Path,
        setup: link.Setup,
        starter: Starter,
        *,
        send: Callable[[Peer, link.ToPeer], None],
        dispatch: Callable[[on.Event], None],
    ) -> None:
        self._loop, self._setup, self._starter = loop, setup, starter
        self._send, self._dispatch = send, dispatch
        self.broken = BrokenPlugins()
        self.groups: dict[str, Group] = {MAIN: Group()}
        self._processes = HostProcesses(loop, runtime, starter, self._ended)
        starter.started, starter.failed, starter.renewed = self._started, self._not_started, self._renew
        self._early: dict[int, Peer] = {}
        """Hosts that were quicker than the word that they have been started."""
        self._stopping = False
        self._unsettled: list[Callable[[], object]] = []
        """Who waits for fresh hosts."""
        self._first = FirstPlugin(loop, setup, self._await_plugins)
        self.on_ready: Callable[[str], None] = lambda group: None
        self.on_drain: Callable[[int], None] = lambda pid: None
        self.on_gone: Callable[[Host], None] = lambda host: None
        self.mail = Mail(loop, send)
        self.judge = Judge(
            loop,
            lives=lambda host: host.pid in self._processes.living,
            kill=starter.kill,
            alone=self._separate,
        )

    @property
    def needed(self) -> bool:
        """Return whether there is a plugin to run."""
        return self._first.there

    # ------------------------------------------------------------ who is there

    def of(self, pid: int | None) -> Host | None:
        """Return a host that lives, by process id."""
        return None if pid is None else self._processes.living.get(pid)

    def current(self, group: str) -> Host | None:
        """Return the host that takes the calls for a group of plugins."""
        found = self.groups.get(group)
        host = None if found is None else found.current
        return host if host is not None and host.peer is not None else None

    def by_peer(self, peer: Peer) -> Host | None:
        """Return the host at the other end of a link."""
        return self._processes.by_peer(peer)

    def pids(self) -> list[int]:
        """Return the process ids of all hosts."""
        return list(self._processes.living)

    # ------------------------------------------------------------ start and stop

    def adopt(self) -> set[int]:
        """Return the hosts of an earlier broker that live; they come by themselves."""
        return self._processes.left()

    def begin(self, living: set[int]) -> None:
        """Start what is needed; hosts of an earlier broker that have not come by now are killed."""
        for pid in living - set(self._processes.living):
            log.error("hook host %d of an earlier broker does not answer: killing it", pid)
            self._starter.kill(pid)
        self._await_plugins()
        for group in self.groups:
            if group != MAIN:
                self.want(group)

    def _await_plugins(self) -> None:
        """Start a host, or, as long as there is nothing to run, see that the first plugin is noticed."""
        main = self.groups[MAIN]
        if self._stopping or main.current is not None or main.coming:
            self._first.stop()
        elif self._first.wait():
            self._start(MAIN)

    def want(self, group: str) -> None:
        """Somebody waits for a host of this group."""
        found = self.groups.setdefault(group, Group())
        if found.current is None and not found.coming:
            self._start(group)

    def _wanted(self, group: str) -> link.Setup:
        alone = sorted({*(name[5:] for name in self.groups if name.startswith("solo:")), *self.broken.at_import})
        only = [group[5:]] if group.startswith("solo:") else None
        return link.Setup(
            self._setup.plugins, self._setup.folder, only, [] if only else alone, self._setup.memory
        )  # fmt: skip

    def _start(self, group: str) -> None:
        if self._stopping:
            return
        found = self.groups.setdefault(group, Group())
        if found.coming:
            found.again = True
            return
        found.starting, found.again = True, False
        self._starter.start(group)

    def _started(self, group: str, pid: int) -> None:
        """A host has been started; it may have come already."""
        found = self.groups[group]
        found.fresh = self._processes.watch(group, pid, self._wanted(group))
        early = self._early.pop(pid, None)
        if found.fresh is None:  # it has ended, and is on its way until it is known how
            self._starter.ended(pid, lambda words, lines: self._ended_at_once(group, pid, words, lines))
            return
        found.starting = False
        if early is not None:
            self._meet(found.fresh, early)

    def _ended_at_once(self, group: str, pid: int, words: str, lines: Sequence[str]) -> None:
        self.groups[group].starting = False
        if not self._stopping:
            self._never_came(group, pid, words, lines)

    def _not_started(self, group: str, why: str) -> None:
        log.error("a hook host for '%s': %s", group, why)
        self.groups[group].starting = False
        self._failed(group, why)

    def stop(self, host: Host) -> None:
        """Have a host leave; it is killed if it does not."""
        if host.peer is not None:
            self._send(host.peer, link.Stop())
        self._loop.call_later(STOP_S, self._processes.kill_if_alive, host)

    async def stop_all(self) -> None:
        """End all hosts."""
        self._stopping = True
        self._first.stop()
        for host in list(self._processes.living.values()):
            self.stop(host)
            if host.peer is None:  # it starts just now, and nothing is with it
                self._starter.kill(host.pid)
        deadline = self._loop.time() + STOP_S
        while self._processes.living and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._processes.kill_all()
        self._starter.dismiss()

    # ------------------------------------------------------------ what hosts say

    def attached(self, peer: Peer, attach: link.Attach) -> None:
        """A host has connected, or again; one of an earlier broker stays if it runs what is configured now."""
        host = self._processes.living.get(attach.pid)
        if host is None:
            host = self._adopted(attach)
        if host is None and attach.setup is None and self._starter.expects and not self._stopping:
            self._early[attach.pid] = peer
            self._loop.call_later(START_S, self._too_early, attach.pid)
        elif host is None:
            self._send(peer, link.Stop())
        else:
            self._meet(host, peer, told=attach.setup is not None)

    def _meet(self, host: Host, peer: Peer, *, told: bool = False) -> None:
        """A host is at the link; `told`: it runs what it is to run."""
        host.peer, host.heard_at = peer, self._loop.time()
        if not told:
            self._send(peer, host.setup)

    def _too_early(self, pid: int) -> None:
        """Nobody has said of a host that came by itself that it was started."""
        if (peer := self._early.pop(pid, None)) is not None:
            self._send(peer, link.Stop())

    def _adopted(self, attach: link.Attach) -> Host | None:
        if attach.setup is None or not runs(attach.pid, "ingled.hooks"):
            return None
        only = attach.setup.only
        group = MAIN if only is None else f"solo:{only[0]}"
        for name in attach.setup.without:
            # Whether or not the host of such a plugin lives: no request may pass before it is known what it does.
            if self.groups.setdefault(f"solo:{name}", Group()).current is None:
                self._dispatch(on.PluginsAwaited(self._loop.time(), f"group:solo:{name}"))
        found = self.groups.setdefault(group, Group())
        if found.current is not None or attach.setup != self._wanted(group):
            log.info("hook host %d runs what is not configured any more: it is told to stop", attach.pid)
            return None
        host = self._processes.watch(group, attach.pid, attach.setup)
        if host is not None:
            found.fresh = host
        return host

    def heard(self, host: Host) -> None:
        """A host has said something."""
        host.heard_at = self._loop.time()

    def offered(self, host: Host, plugins: list[link.Plugin]) -> None:
        """A host has loaded its plugins: it takes over, unless it lost some that the one before it has."""
        found = self.groups[host.group]
        if found.current is host:
            return
        if found.fresh is not host:
            self.stop(host)
            return
        host.plugins = plugins
        found.fresh, found.failures, before = None, 0, found.current
        # Of what this host and its group have nothing to do with, another one tells.
        main, mine = host.group == MAIN, host.group.removeprefix("solo:")
        bad = self.broken.told(plugins, lambda name: f"solo:{name}" in self.groups if main else name != mine)
        good_before = {one.name for one in (before.plugins if before and before.plugins else []) if not one.problem}
        if before is not None and good_before & bad:
            log.error("the plugins stay as they were until this is put right")
            self.stop(host)
        else:
            found.current = host
            self._dispatch_entries(host)
            self.on_ready(host.group)
            if before is not None:
                before.draining = True
                self._loop.call_soon(self.on_drain, before.pid)
        if found.again:
            self._start(host.group)
        elif found.current is host and host.group == MAIN and not plugins and len(self.groups) == 1:
            found.current = None  # there is nothing to run any more
            self.stop(host)
            self._await_plugins()
        self._settle()

    def _dispatch_entries(self, host: Host) -> None:
        provider, choices = f"group:{host.group}", self._setup.plugins
        plugins, problems = host.plugins or [], {}
        if host.group == MAIN:  # since it was started, some may have got a host of their own
            plugins = [one for one in plugins if f"solo:{one.name}" not in self.groups]
            problems = dict.fromkeys(self.broken.at_import, "its import ends the hook host")
        found = [*stand_ins(provider, problems, choices), *entries(provider, plugins, choices)]
        self._dispatch(on.PluginsOffered(self._loop.time(), provider, tuple(found)))

    def reconfigure(self, setup: link.Setup) -> None:
        """Run other plugins, or with other options: fresh hosts take over as soon as they have told what they offer."""
        self._setup = self._first.setup = setup
        self.broken.at_import.clear()
        self._renew()
        self._await_plugins()

    def _renew(self) -> None:
        """Have fresh hosts take over from those that run."""
        for name in [name for name, group in self.groups.items() if group.current or group.coming]:
            self._start(name)

    def when_settled(self, then: Callable[[], object]) -> None:
        """Call `then` as soon as no fresh host is on its way: what is configured runs, or it is known why it cannot."""
        self._unsettled.append(then)
        self._settle()

    def _settle(self) -> None:
        if self._stopping or not any(group.coming for group in self.groups.values()):
            waiting, self._unsettled = self._unsettled, []
            for then in waiting:
                then()

    def changed(self, host: Host) -> None:
        """The drop-in folder of a host has changed."""
        if not host.draining:
            self.broken.at_import.clear()
            log.info("the folder of plugins has changed: a fresh hook host is started")
            self._start(host.group)
            for group in self.groups:
                self.want(group)  # also those that could not be started so far

    # ------------------------------------------------------------ hangs and deaths

    def kill_the_silent(self) -> None:
        """Kill hosts that have said nothing for long."""
        self.judge.look_at(list(self._processes.living.values()))

    def forgive(self, seconds: float) -> None:
        """Do not count time in which the broker itself did not run as their silence."""
        for host in self._processes.living.values():
            host.heard_at += seconds

    def replace(self, host: Host, why: str) -> None:
        """A thread of a host does not come back: a fresh one takes over."""
        if not host.draining and not self.groups[host.group].coming:
            log.warning("hook host %d: %s: a fresh one takes over", host.pid, why)
            self._start(host.group)
        self._loop.call_later(DEAD_S, self._processes.kill_if_alive, host)

    def _separate(self, host: Host, name: str) -> None:
        """A plugin of a host gets one of its own."""
        group = f"solo:{name}"
        if group in self.groups:
            return
        log.warning("plugin '%s' brought its host down again: it gets one of its own", name, extra=about(hook=name))
        self.groups[group] = Group()
        # Until its own host has come, its calls wait for that: no request may pass by it.
        offers = [one for one in host.plugins or [] if one.name == name and one.offer is not None]
        alone = tuple(entries(f"group:{group}", offers, self._setup.plugins))
        self._dispatch(on.PluginsOffered(self._loop.time(), f"group:{group}", alone))
        self._start(group)

    def gone(self, peer: Peer) -> None:
        """A link broke: the process decides whether the host lives."""
        if (host := self.by_peer(peer)) is not None:
            host.peer = None
        self._early = {pid: one for pid, one in self._early.items() if one is not peer}

    def _ended(self, host: Host, words: str, lines: Sequence[str]) -> None:
        found = self.groups[host.group]
        was_current, was_fresh = found.current is host, found.fresh is host
        if was_current:
            found.current = None
        if was_fresh:
            found.fresh = None
        if self._stopping:
            host.file.unlink(missing_ok=True)
            return
        if was_current or was_fresh:
            log.error("hook host %d of '%s' ended: %s", host.pid, host.group, words)
        self.judge.died(host, words)
        host.file.unlink(missing_ok=True)
        self.on_gone(host)
        if was_fresh and host.plugins is None:
            self._never_came(host.group, host.pid, words, lines)
        elif was_current and not found.coming:
            self._start(host.group)
        self._settle()

    def _never_came(self, group: str, pid: int, words: str, lines: Sequence[str]) -> None:
        """A host ended before it told what it offers; the next one does without a plugin whose import that was."""
        name = import_that_ended(pid, lines)
        if name is not None and group == MAIN:
            self.broken.ended_its_host(name, words)
        self._failed(group, f"the hook host ended ({words}): {lines[-1] if lines else '-'}")

    def _failed(self, group: str, why: str) -> None:
        """A host could not be started; after some tries its plugins are broken until one can."""
        found = self.groups[group]
        found.failures += 1
        if found.failures == TRIES and found.current is None:
            only = self._wanted(group).only
            shared = [name for name in self._setup.plugins if f"solo:{name}" not in self.groups]
            problems = dict.fromkeys(shared if only is None else only, why)
            broken = tuple(stand_ins(f"group:{group}", problems, self._setup.plugins))
            self.broken.have_no_host((entry.name for entry in broken), why)
            self._dispatch(on.PluginsOffered(self._loop.time(), f"group:{group}", broken))
        self._loop.call_later(min(60.0, 0.1 * 4 ** min(found.failures, 5)), self._start, group)
        self._settle()
