"""From files to settings, or to the error that names file, key and what is allowed there."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ingle.address import LONGEST, runtime_dir

from ingled.config import layers, profiles, typed
from ingled.config.settings import Config, metrics_place
from ingled.config.tables import BUILTIN, Daemon, Engine, Hook, Model, Plugin, Rule
from ingled.config.typed import ConfigError
from ingled.link import SOCKET_FILE

PATHS = ("socket", "state_dir", "plugin_folder")
"""Keys of `[daemon]` that are paths."""


def load(
    file: Path | Sequence[Path] | None,
    *,
    socket: Path | None = None,
    state: Path | None = None,
    engine: Engine = "vllm",
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Read the configuration from one file, or from several, of which the later win; without any there is the
    built-in model alone.

    Raises ConfigError, also for a file that cannot be read.
    """
    files = [file] if isinstance(file, Path) else list(file or ())
    try:
        table, origins = layers.read(files)
    except layers.Unreadable as error:
        raise ConfigError(str(error)) from error
    where = str(files[0]) if len(files) == 1 else "configuration"
    try:
        daemon, models, paths = _read(table, origins)
        plugins, hooks = _read_hooks(table)
        rules = _read_rules(table)
    except ConfigError as error:
        found = re.match(r"[\w.\[\]-]*", str(error))
        key = found[0] if found else ""
        at = layers.origin(key, origins)
        line = layers.line(at, key) if at else None
        raise ConfigError(f"{at or where}{f':{line}' if line else ''}: {error}") from error
    home = Path(environ.get("HOME") or "/")
    runtime = Path(runtime_dir())
    socket = socket or paths.get("socket") or runtime / "ingle.sock"
    if socket != runtime / "ingle.sock":
        runtime = socket.parent / f"{socket.name}.d"
    default_state = Path(environ.get("XDG_STATE_HOME") or home / ".local/state") / "ingle"
    state = state or paths.get("state_dir") or default_state
    folder = paths.get("plugin_folder") or Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "ingle/plugins"
    config = Config(
        socket.absolute(),
        runtime.absolute(),
        state.absolute(),
        daemon,
        models,
        engine,
        plugins,
        hooks,
        folder,
        rules,
        origins,
    )
    for path in (config.socket, config.runtime / SOCKET_FILE):
        if (size := len(os.fsencode(path))) > LONGEST:
            most = f"a socket's path may have {LONGEST}: choose a shorter --socket"
            raise ConfigError(f"{path} is too long: it has {size} bytes, and {most}")
    return config


def _read(table: dict[str, Any], origins: Mapping[str, Path]) -> tuple[Daemon, dict[str, Model], dict[str, Path]]:
    typed.known(table, ("daemon", "models", "plugins", "hooks", "rules"), "")
    head = typed.table(table.get("daemon", {}), "daemon")
    paths: dict[str, Path] = {}
    for key in PATHS:
        if key in head:
            value = head.pop(key)
            if not isinstance(value, str) or not Path(value).expanduser().is_absolute():
                raise ConfigError(f"daemon.{key} is {value!r}: expected an absolute path")
            paths[key] = Path(value).expanduser()
    daemon = typed.convert(head, Daemon, "daemon", extra=PATHS)
    for key in ("memory", "head_room"):
        value = getattr(daemon, key)
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            if one is not None:
                typed.size(one, f"daemon.{key}[{index}]" if isinstance(value, list) else f"daemon.{key}")
    if daemon.memory == []:
        raise ConfigError("daemon.memory is []: say one size, or one for each device")
    try:
        metrics_place(daemon.metrics or "/")
    except ValueError as error:
        allowed = "an absolute path of a unix socket, or a loopback address and port such as '127.0.0.1:9464'"
        raise ConfigError(f"daemon.metrics is {daemon.metrics!r}: expected {allowed}") from error
    models: dict[str, Model] = {}
    for name, value in typed.table(table.get("models", {}), "models").items():
        at = f"models.{name}"
        profiles.check_name(name, at)
        said = typed.table(value, at)
        model = typed.convert(said, Model, at)
        if model.base is not None or model.adapter is not None:
            models[name] = profiles.adapter(model, at, tuple(said), origins.get(f"{at}.adapter"))
        else:
            models[name] = profiles.profile(model, at, origins.get(f"{at}.source"))
    if not models:
        models["ember"] = Model(source=BUILTIN, default=True, preload=True)
    profiles.check_names(models)
    profiles.check_bases(models)
    return daemon, models, paths


def _read_hooks(table: dict[str, Any]) -> tuple[dict[str, Plugin], dict[str, Hook]]:
    """Read plugins and the rules for what clients offer."""
    plugins: dict[str, Plugin] = {}
    hooks: dict[str, Hook] = {}
    for name, value in typed.table(table.get("plugins", {}), "plugins").items():
        at = f"plugins.{name}"
        _check_hook(name, at)
        plugins[name] = typed.convert(typed.table(value, at), Plugin, at)
    for name, value in typed.table(table.get("hooks", {}), "hooks").items():
        at = f"hooks.{name}"
        _check_hook(name, at)
        hooks[name] = typed.convert(typed.table(value, at), Hook, at)
        if hooks[name].scope_all and hooks[name].account is None:
            raise ConfigError(f"{at}.account is missing: who may offer a hook that sees all accounts must be named")
    return plugins, hooks


def _read_rules(table: dict[str, Any]) -> list[Rule]:
    found = table.get("rules", [])
    if not isinstance(found, list):
        raise ConfigError(f"rules is {found!r}: begin each rule with [[rules]]")
    rules = []
    for i, value in enumerate(found):
        at = f"rules[{i}]"
        rule = typed.convert(typed.table(value, at), Rule, at)
        for name in rule.accounts:
            if re.fullmatch(r"\*|uid:[0-9]+|(group:)?[^\s:*]+", name) is None:
                allowed = "`uid:N`, the name of a user, `group:NAME` or `*`"
                raise ConfigError(f"{at}.accounts has {name!r}: expected {allowed}")
        rules.append(rule)
    return rules


def _check_hook(name: str, at: str) -> None:
    if re.fullmatch("[a-z0-9][a-z0-9_.-]{0,63}", name) is None:
        raise ConfigError(f"{at}: a hook's name has small letters, digits, '_', '.' and '-', and at most 64 of them")
