"""A changed configuration in a running daemon: read, checked, and applied as far as that can be done without a restart.

A file that is wrong changes nothing. What only a restart can change is named: `systemctl restart` keeps models warm.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from ingled import journal
from ingled.broker import service
from ingled.broker.link_front import lease
from ingled.broker.listen import CannotListen
from ingled.broker.measuring import measure, prepare
from ingled.broker.scrape import Scrape
from ingled.config import Config, ConfigError
from ingled.config.tables import Daemon
from ingled.core import events as on
from ingled.core.accounts import ADMIN, Accounts, Caller
from ingled.core.desk import Limits
from ingled.core.pipeline import Rule
from ingled.core.residency import PRESENT

if TYPE_CHECKING:
    from ingled.broker.shell import Shell

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at the files. A few calls of stat: no need of threads that watch folders."""

Files = dict[str, tuple[int, int, int]]

FIXED = ("daemon.socket", "daemon.state_dir")
"""Keys that take effect when the daemon is started again."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that differ from the running configuration."""

    now: list[str]
    """These take effect at once."""
    load: list[str]
    """Models that are loaded with the options that they had before, until their next load."""
    later: list[str]
    """These take effect when the daemon is started again."""

    def describe(self) -> dict[str, Any]:
        """Return what the verb `reload` tells."""
        return {"changed": self.now, "at_next_load": self.load, "after_restart": self.later}


def changes(old: Config, new: Config) -> Changes:
    """Compare two configurations; models, plugins and hooks are compared by name."""
    keys = [key for key in Daemon.__struct_fields__ if getattr(old.daemon, key) != getattr(new.daemon, key)]
    found = [f"daemon.{key}" for key in keys]
    for table in ("models", "plugins", "hooks"):
        before, after = getattr(old, table), getattr(new, table)
        found += [f"{table}.{name}" for name in {**before, **after} if before.get(name) != after.get(name)]
    found += ["rules"] if old.rules != new.rules else []
    for key, name in (("socket", "socket"), ("state", "state_dir"), ("plugin_folder", "plugin_folder")):
        found += [f"daemon.{name}"] if getattr(old, key) != getattr(new, key) else []
    return Changes([key for key in found if key not in FIXED], [], [key for key in found if key in FIXED])


def reload(shell: "Shell") -> Changes:
    """Read the configuration anew and apply it. Raises ConfigError, and then nothing has changed.

    Plugins take their time: `shell.hosts.when_settled` tells when they run as configured, and so does systemd.
    """
    service.reloading()
    shell.config_files = fingerprint(shell.place.config_files())
    try:
        new = shell.place.read_config(shell.config)
        found = changes(shell.config, new)
        scrape = _metrics(found, new)
    except ConfigError as error:
        shell.config_problem = str(error)
        log.error("the configuration stays as it was: %s", error)
        service.notify("READY=1")
        raise
    shell.config_problem = None
    _apply(shell, new, found)
    if "daemon.metrics" in found.now:
        shell.tasks.start(measure(shell, scrape))
    shell.hosts.when_settled(lambda: service.notify("READY=1"))
    lists = (_list(found.now), _list(found.load), _list(found.later))
    log.info("configuration read: changed now: %s; of these at the next load: %s; after a restart: %s", *lists)
    return found


def _metrics(found: Changes, new: Config) -> Scrape | None:
    """Take the socket at which metrics will be. Raises ConfigError."""
    if "daemon.metrics" not in found.now:
        return None
    try:
        return prepare(new.metrics)
    except CannotListen as error:
        raise ConfigError(f"daemon.metrics: {error}") from error


def _apply(shell: "Shell", new: Config, found: Changes) -> None:
    old, daemon = shell.config, new.daemon
    shell.config = replace(new, socket=old.socket, runtime=old.runtime, state=old.state)
    journal.set_level(daemon.log_level)
    shell.people.decide_by(Accounts(shell.owners, shell.config.access))
    rules = {name: Rule(hook.account, hook.order, hook.scope_all) for name, hook in new.hooks.items()}
    limits = Limits(queue=daemon.queue, keep_s=daemon.keep, keep_bytes=daemon.keep_bytes)
    shell.dispatch(on.SettingsChanged(shell.loop.time(), limits, rules, daemon.patience, daemon.memory_wait))
    shell.workers.live_by(lease(shell.config))
    shell.suspend.use(daemon.suspend)
    _apply_models(shell, old, found)
    if any(key.startswith(("plugins.", "daemon.plugin_")) for key in found.now):
        shell.hosts.reconfigure(shell.config.setup)


def _apply_models(shell: "Shell", old: Config, found: Changes) -> None:
    """Have other models; what was loaded stays loaded, and what is to be preloaded is."""
    new, now = shell.config, shell.loop.time()
    names = [name for name in new.models if f"models.{name}" in found.now]
    specs, before = new.specs, dict(shell.specs)
    other = [name for name, spec in specs.items() if name in names or spec != before.get(name)]  # its adapters, too
    shell.specs.update({name: specs[name] for name in other})
    shell.adapters.update(new.adapters)
    models = shell.control.models
    loaded = [name for name in other if name in models and models[name].state in PRESENT]
    found.load.extend(f"models.{name}" for name in loaded if before.get(name) != shell.specs[name])
    aliases = {name: tuple(model.aliases) for name, model in new.models.items()}
    described = tuple(new.fresh(name) for name in names)
    shell.dispatch(on.ModelsChanged(now, described, aliases, new.default_model))
    shell.needs.reconfigure(new, other)
    if shell.devices.reconfigure(new):
        shell.devices.ask()
    for name in names:
        known = old.models.get(name)
        if new.models[name].preload and (known is None or not known.preload):
            shell.dispatch(on.LoadAsked(now, Caller(0, "daemon", ADMIN), 0, name, False))


def fingerprint(files: Iterable[Path]) -> Files:
    """Return what tells whether files are other ones than before; one that is not there is left out."""
    found: Files = {}
    for file in files:
        with contextlib.suppress(OSError):
            about = file.stat()
            found[str(file)] = (about.st_mtime_ns, about.st_size, about.st_ino)
    return found


async def keep_looking(shell: "Shell") -> None:
    """Reload whenever the files have changed and whoever writes them is done, for ever."""
    before = shell.config_files
    while True:
        await asyncio.sleep(LOOK_S)
        now = fingerprint(shell.place.config_files())
        if shell.config.daemon.watch and now == before != shell.config_files:
            with contextlib.suppress(ConfigError):  # it has been told
                reload(shell)
        before = now


def effective(config: Config) -> list[dict[str, Any]]:
    """Return every setting as it is now: its path, value, and the file that it comes from (null: the default)."""
    values = {
        "daemon": msgspec.to_builtins(config.daemon)
        | {"socket": str(config.socket), "state_dir": str(config.state), "plugin_folder": str(config.plugin_folder)},
        "models": msgspec.to_builtins(config.models),
        "plugins": msgspec.to_builtins(config.plugins),
        "hooks": msgspec.to_builtins(config.hooks),
        "rules": msgspec.to_builtins(config.rules),
    }
    found: list[dict[str, Any]] = []

    def walk(at: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                walk(f"{at}.{key}" if at else key, below)
            return
        file = config.origins.get(at)
        found.append({"key": at, "value": value, "origin": None if file is None else str(file)})

    walk("", values)
    return found


def _list(keys: list[str]) -> str:
    return ", ".join(keys) or "nothing"
