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
from ingled.config import Config, ConfigError, Daemon
from ingled.core import events as on
from ingled.core.accounts import Accounts
from ingled.core.desk import Limits
from ingled.core.pipeline import Rule

if TYPE_CHECKING:
    from ingled.broker.shell import Shell

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at the files. A few calls of stat: no need of threads that watch folders."""

Files = dict[str, tuple[int, int, int]]

LIVE = ("watch", "log_level", "drain", "idle_exit", "queue", "keep", "keep_bytes", "plugin_memory")
"""Keys of `[daemon]` that take effect at once."""
TABLES = ("plugins", "hooks", "rules")
"""Tables that take effect at once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that differ from the running configuration."""

    now: list[str]
    """These take effect at once."""
    later: list[str]
    """These do when the daemon is started again."""


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
    live = {f"daemon.{key}" for key in LIVE}
    now = [key for key in found if key in live or key.partition(".")[0] in TABLES]
    return Changes(now, [key for key in found if key not in now])


def reload(shell: "Shell") -> Changes:
    """Read the configuration anew and apply it. Raises ConfigError, and then nothing has changed."""
    service.reloading()
    shell.config_files = fingerprint(shell.place.config_files())
    try:
        new = shell.place.read_config(shell.config)
    except ConfigError as error:
        shell.config_problem = str(error)
        log.error("the configuration stays as it was: %s", error)
        raise
    finally:
        service.notify("READY=1")
    found = changes(shell.config, new)
    shell.config_problem = None
    _apply(shell, new, found)
    log.info("configuration read: changed now: %s; after a restart: %s", _list(found.now), _list(found.later))
    return found


def _apply(shell: "Shell", new: Config, found: Changes) -> None:
    live = {key: getattr(new.daemon, key) for key in LIVE}
    daemon = replace(shell.config.daemon, **live)
    shell.config = replace(
        shell.config, daemon=daemon, plugins=new.plugins, hooks=new.hooks, rules=new.rules, origins=new.origins
    )
    journal.set_level(daemon.log_level)
    shell.people.decide_by(Accounts(shell.owners, shell.config.access))
    rules = {name: Rule(hook.account, hook.order, hook.scope_all) for name, hook in new.hooks.items()}
    limits = Limits(queue=daemon.queue, keep_s=daemon.keep, keep_bytes=daemon.keep_bytes)
    shell.dispatch(on.SettingsChanged(shell.loop.time(), limits, rules))
    if any(key.startswith(("plugins.", "daemon.plugin_memory")) for key in found.now):
        shell.hosts.reconfigure(shell.config.setup)


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
