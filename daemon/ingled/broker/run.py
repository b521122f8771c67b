"""The composition root: makes the folders and sockets, runs the shell until it is told to stop, leaves nothing."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import resource
import secrets
import signal
import socket
import time
from functools import partial
from pathlib import Path

from ingled import link, remains
from ingled.broker import carried, service
from ingled.broker.allowances import Allowances
from ingled.broker.listen import CannotListen, listen, lock, private_folder
from ingled.broker.measuring import measure, prepare
from ingled.broker.place import Place
from ingled.broker.popularity import Popularity
from ingled.broker.readiness import Readiness
from ingled.broker.reload import fingerprint, keep_looking, reload
from ingled.broker.shell import Shell
from ingled.broker.waiting_room import Waits
from ingled.config import Config, ConfigError
from ingled.core import events as on
from ingled.core.accounts import ADMIN, Caller
from ingled.journal import about
from ingled.processes import kill_group, runs

log = logging.getLogger(__name__)

HAND_OVER_S = 10.0
"""Seconds that a running daemon has to leave after it was asked to hand over."""

ADOPT_S = 2.0
"""Seconds that the nursery and the hosts of an earlier broker have to come to this one: they are soon replaced."""

ADOPT_WORKER_S = 10.0
"""Seconds that its workers have: what is warm is not thrown away because the machine is busy."""

TELL_S = 2.0
"""Seconds at the end in which observers are told of what they have not been told yet."""

STOP_S = 10.0
"""Seconds that workers may take to leave before their process groups are killed."""


IDLE_LOOK_S = 5.0
"""Between two looks at whether there are clients."""


def run(config: Config, place: Place) -> int:
    """Serve until SIGTERM, SIGINT, SIGUSR1 or `shutdown`; returns the exit code. Raises CannotListen.

    SIGHUP reloads the configuration.

    SIGUSR1 hands over: models and requests go on, for the daemon that comes next.
    """
    _raise_descriptor_limit()
    runtime = config.runtime
    if not config.socket.parent.is_dir():
        private_folder(config.socket.parent)
    private_folder(runtime)
    try:
        return _run(config, place)
    except OSError as error:  # a full disk, say; whatever names a file is told as it is
        where = f" ({error.filename})" if error.filename else ""
        raise CannotListen(f"{error.strerror or error}{where}") from error


def _run(config: Config, place: Place) -> int:
    runtime = config.runtime
    with lock(runtime / link.LOCK_FILE, HAND_OVER_S if place.replace else 0.0):
        for name in ("logs", "workers", "hosts"):
            private_folder(runtime / name)
        try:
            config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CannotListen(f"state folder {config.state} cannot be made: {error.strerror}") from error
        if not os.access(config.state, os.W_OK | os.X_OK):
            raise CannotListen(f"state folder {config.state} cannot be written; give another --state-dir")
        secret = _secret(runtime / link.SECRET_FILE)
        inherited = _inherited(config.socket)
        if asyncio.run(_serve(config, place, secret, inherited)):
            # A socket that systemd listens on is not ours to remove; of `workers` only what workers made.
            for meeting in [runtime] if place.hosts is None else [runtime, place.hosts]:
                for name in (link.SOCKET_FILE, link.SECRET_FILE):
                    (meeting / name).unlink(missing_ok=True)
            if inherited is None:
                config.socket.unlink(missing_ok=True)
            for folder in (runtime / "workers").glob("[0-9]*"):
                remains.remove(folder)
    return 0


def _inherited(path: Path) -> int | None:
    """Return the socket that the service manager listens on for us. Raises CannotListen when it is another one."""
    given = service.inherited_sockets()
    for fd in given:
        with socket.socket(fileno=os.dup(fd)) as one:
            if one.family == socket.AF_UNIX and one.getsockname() == str(path) and len(given) == 1:
                return fd
    if given:
        names = ", ".join(given.values())
        raise CannotListen(f"systemd passes other sockets ({names}) than {path}: ListenStream= and --socket must agree")
    return None


async def _serve(config: Config, place: Place, secret: str, inherited: int | None) -> bool:
    """Serve until told to stop; returns whether everything has been stopped, and not handed over."""
    loop = asyncio.get_running_loop()
    identity = {"name": "ingled", "version": place.version, "boot": secrets.token_hex(8)}
    shell = Shell(
        config,
        loop,
        secret=secret,
        host_secret="" if place.hosts is None else _secret(place.hosts / link.SECRET_FILE, 0o640),
        identity=identity,
        own_uid=os.geteuid(),
        own_socket=config.socket if inherited is None else None,
        place=place,
    )
    shell.config_files = fingerprint(place.config_files())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, shell)
    loop.add_signal_handler(signal.SIGUSR1, shell.hand_over)
    loop.add_signal_handler(signal.SIGHUP, _reload, shell)
    shell.workers.router.listen(listen(config.runtime / link.SOCKET_FILE, 0o600))
    if place.hosts is not None:  # the folder is open to the hosts' group, and to nobody else
        shell.workers.host_link.router.listen(listen(place.hosts / link.SOCKET_FILE, 0o660))
    shell.needs.start()
    shell.devices.start()
    popularity = Popularity(shell.control.residents.uses, shell.needs.ledger)
    await _adopt(shell)
    gc.enable()
    gc.freeze()  # what lives as long as this process needs no search: a full one stopped the loop for 15 ms
    await measure(shell, prepare(config.metrics))
    fd = listen(config.socket, 0o660) if inherited is None else inherited
    shell.front.router.listen(fd)
    log.info("listening at %s (%d models, engine %s)", config.socket, len(config.models), config.engine)
    preload = [name for name, model in config.models.items() if model.preload]
    for name in preload:
        shell.dispatch(on.LoadAsked(loop.time(), Caller(0, "daemon", ADMIN), 0, name, False))
    tasks = shell.tasks
    models = shell.control.models
    warm = [models[name] for name in preload] if config.daemon.ready == "warm" else []
    readiness = Readiness(models, warm)
    shell.on_model = readiness.changed
    telling = tasks.start(readiness.keep_telling())
    tasks.start(_watch_silence(shell))
    if (limit := service.watchdog_s()) is not None:
        tasks.start(_feed_watchdog(limit / 3))
    shell.suspend.use(config.daemon.suspend)
    tasks.start(keep_looking(shell))
    allowances = Allowances(shell.control.desk.quotas, shell.needs.ledger, loop)
    tasks.start(allowances.keep_writing())
    tasks.start(popularity.keep_writing())
    if inherited is not None:
        tasks.start(_leave_when_idle(shell))
    await shell.draining.wait()
    await _tell_observers(shell)
    telling.cancel()
    service.notify("STOPPING=1")
    await _drain(shell, shell.config.daemon.drain)
    await _tell_observers(shell)
    tasks.cancel()
    if inherited is not None:
        shell.front.router.close()  # who comes from now on is answered by the next daemon
    if not shell.handed_over:
        service.notify("STATUS=stopping workers and nursery", f"EXTEND_TIMEOUT_USEC={3 * STOP_S * 1e6:.0f}")
        await _stop_all(shell)
    shell.suspend.close()
    allowances.write()
    popularity.write()
    await shell.needs.close()
    shell.front.router.close()
    shell.workers.router.close()
    shell.workers.host_link.router.close()
    shell.waiting_room.close(remove=not shell.handed_over)
    if shell.scrape is not None:
        shell.scrape.close()
    log.info("handed over" if shell.handed_over else "stopped")
    return not shell.handed_over


async def _drain(shell: Shell, seconds: float) -> None:
    """Let running requests come to their end within this time, and tell how many there are."""
    deadline = time.monotonic() + seconds
    while not shell.drained.is_set():
        left = deadline - time.monotonic()
        if left <= 0:
            log.warning("requests still run after %.0f s of draining: ending them", seconds)
            shell.dispatch(on.DrainExpired(shell.loop.time()))
            return
        service.status(f"draining: {shell.running} requests run, at most {left:.0f} s more")
        service.extend()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(shell.drained.wait(), min(left, 1.0))


async def _tell_observers(shell: Shell) -> None:
    """Let hooks be told of the last ends, for a moment: nothing that hangs can keep the daemon."""
    deadline = time.monotonic() + TELL_S
    while not shell.hooks.observers.idle and time.monotonic() < deadline:
        await asyncio.sleep(0.005)


def _reload(shell: Shell) -> None:
    with contextlib.suppress(ConfigError):  # it has been told
        reload(shell)


async def _leave_when_idle(shell: Shell) -> None:
    """Stop the daemon when there was no client and no request for `idle_exit`; the next client starts it again."""
    since = time.monotonic()
    while True:
        seconds = shell.config.daemon.idle_exit
        await asyncio.sleep(min(IDLE_LOOK_S, seconds / 4) if seconds else IDLE_LOOK_S)
        if not seconds or shell.front.connections or shell.control.requests.records:
            since = time.monotonic()
        elif time.monotonic() - since >= seconds:
            log.info("no client for %.0f s: the daemon stops, and systemd starts it for the next one", seconds)
            shell.front.router.close()  # who comes now waits for the next daemon
            shell.drain()
            return


def _stop(shell: Shell) -> None:
    """Drain at the first signal, end at once at the second."""
    if shell.control.draining:
        log.warning("second signal: ending at once")
        shell.dispatch(on.DrainExpired(shell.loop.time()))  # else a worker would be started for what it ran
        shell.drained.set()
    else:
        shell.drain()


async def _adopt(shell: Shell) -> None:
    """Take over what an earlier broker left running, before anybody can ask for it.

    Workers and nursery come to us by themselves; those that live are known by their folders and the nursery's file.
    """
    folder = shell.config.runtime / "workers"
    expected = set()
    for entry in folder.iterdir():
        if entry.name.isdigit():
            if runs(int(entry.name), "ingled.nursery"):
                expected.add(entry.name)
            else:
                remains.remove(entry)
    nursery, hosts = shell.nursery.adopt(), shell.hosts.adopt()
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < ADOPT_WORKER_S:
        settled = {name for name, worker in shell.workers.workers.items() if worker.settled}
        late = any(runs(int(name), "ingled.nursery") for name in expected - settled)
        there = hosts <= set(shell.hosts.pids()) and (not nursery or shell.workers.nursery.peer is not None)
        if not late and (there or waited > ADOPT_S):
            break
        await asyncio.sleep(0.005)
    for name in expected - set(shell.workers.workers):
        if runs(int(name), "ingled.nursery"):
            log.error("worker %s of an earlier broker does not answer: killing it", name)
            kill_group(int(name))
    if nursery and shell.workers.nursery.peer is None:
        log.warning("the nursery of an earlier daemon does not answer, or still imports: a fresh one takes its place")
    await _adopt_waiting(shell)
    if expected or shell.control.requests.records:
        adopted, requests = len(shell.workers.workers), len(shell.control.requests.records)
        log.info("adopted %d workers and %d requests", adopted, requests)
    if not nursery or shell.workers.nursery.peer is None:
        shell.nursery.start()
    shell.hosts.begin(hosts)


async def _adopt_waiting(shell: Shell) -> None:
    """Take over what waited when an earlier broker ended, once it is known who asked for it."""
    left = shell.waiting_room.take_over()
    known = {uid: shell.loop.create_future() for uid in {one.uid for one in left}}
    for uid, future in known.items():
        shell.people.meet(uid, partial(future.set_result, None))
    if known:
        await asyncio.wait(known.values(), timeout=ADOPT_S)
    for one in left:
        if one.held.id not in shell.flow.streams:  # else it had just been given to a worker
            _take_over(shell, one)
        record = shell.control.requests.records.get(one.held.id)
        if record is None or record.worker is not None:
            shell.waiting_room.leave(one.held.id)


def _take_over(shell: Shell, one: Waits) -> None:
    """Take over a request that no worker held when an earlier daemon ended."""
    held = one.held
    try:
        record = carried.unpack(held, None, filtering=one.filtering)
    except ValueError as error:
        extra = about(request=held.id)
        log.error("request %s of an earlier daemon cannot be taken over: %s", held.id, error, extra=extra)
        return
    record.rights = shell.people.rights(one.uid)
    shell.dispatch(on.RequestAdopted(shell.loop.time(), record, held.offset, list(held.tokens), one.text))


async def _watch_silence(shell: Shell) -> None:
    """End workers that hang; time in which this process itself did not run is not held against them."""
    while True:
        seconds = shell.config.daemon.stuck
        pause = min(1.0, seconds / 10)
        before = time.monotonic()
        await asyncio.sleep(pause)
        late = time.monotonic() - before - pause
        if late > pause:
            shell.workers.forgive(late)
        shell.workers.kill_the_silent(seconds)


async def _stop_all(shell: Shell) -> None:
    """Have workers and nursery leave; kill what does not."""
    told: set[int] = set()
    deadline = time.monotonic() + STOP_S
    while True:
        for name, worker in list(shell.workers.workers.items()):
            if worker.pid not in told:  # one that was being forked comes later than the rest
                told.add(worker.pid)
                shell.workers.stop(name, worker.pid)
        if not shell.workers.ends.alive or time.monotonic() >= deadline:
            break
        await asyncio.sleep(0.01)
    for pid in shell.workers.ends.alive:
        log.error("worker %d did not leave in %.0f s: killing it", pid, STOP_S)
        kill_group(pid)
    await shell.hosts.stop_all()
    # A nursery that still imports has forked nothing and would notice only after its import.
    await shell.nursery.stop(STOP_S if shell.workers.nursery.phase == "ready" else 0)
    for pid in shell.workers.ends.alive:  # forked as its nursery was told to leave
        kill_group(pid)


async def _feed_watchdog(interval: float) -> None:
    """Tell the service manager that the loop turns."""
    while True:
        service.notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def _secret(path: Path, mode: int = 0o600) -> str:
    """Return the start-up secret; kept over restarts, so that living workers can attach again."""
    try:
        found = path.read_bytes().strip()
    except FileNotFoundError:
        pass
    else:
        if re.fullmatch(rb"[0-9a-f]{32}", found) is None:
            raise CannotListen(f"{path} is not a start-up secret; remove it, if no worker of an earlier daemon lives")
        return found.decode()
    secret = secrets.token_hex(16)
    fresh = path.with_suffix(".new")  # a full disk must not leave half a secret in its place
    try:
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secret)
            os.fchmod(fd, mode)
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return secret


def _raise_descriptor_limit() -> None:
    """Let there be as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
