"""The configuration: TOML, typed and frozen, read at start and at a reload (docs/configuration.md).

Every error names the path of its key and what is allowed there. Nothing here reads a clock, a socket or a model.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from ingle.address import runtime_dir
from ingle.bytesize import parse
from ingle.wire.hook_schema import Select
from ingle.wire.limits import HOOK_DEADLINE_MS
from ingle.wire.schema import TEXT_OPS, Sampling
from msgspec import Meta, Struct

from ingled import layers
from ingled.core import accounts, residency
from ingled.core.accounts import Class, Right
from ingled.core.placement import Device, Terms
from ingled.link import AddAdapter, Choice, Setup, Spec
from ingled.models.builtin import EMBER_OPTIONS, ember_path

Engine = Literal["vllm", "echo"]
ENGINES: tuple[str, ...] = ("vllm", "echo")
BUILTIN = "builtin:ember"
S = TypeVar("S", bound=Struct)


class ConfigError(ValueError):
    """The configuration is wrong; the text names the file, the key and what is allowed."""


class Daemon(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[daemon]`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    adopt_grace: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    """Seconds that workers and nursery live on without a broker."""
    stuck: Annotated[float, Meta(ge=1, le=86400)] = 60.0
    """Seconds after which an engine or worker that answers nothing is killed and replaced."""
    drain: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """Seconds that running requests may take when the daemon stops."""
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    """Most requests that wait for one model."""
    keep: Annotated[float, Meta(ge=0, le=86400)] = 600.0
    """Seconds for which the answer of a detached request is held."""
    keep_bytes: Annotated[int, Meta(ge=0)] = 64 << 20
    """Most bytes of such answers."""
    ready: Literal["warm", "listening"] = "warm"
    """When the service manager is told that the start is over: models with `preload` are ready, or the socket is."""
    idle_exit: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    """Seconds without a client after which a daemon that systemd starts on demand stops; 0: never."""
    watch: bool = True
    """Files of configuration are read anew when they are saved."""
    plugin_memory: Annotated[int, Meta(ge=128 << 20)] = 1 << 30
    """Most bytes of memory that a host of plugins may have."""
    memory: int | str | list[int | str] | None = None
    """Bytes that all models may take together, such as "24GiB"; without it, what is free but for `head_room`.

    Several sizes are several devices: of GPUs in their order, of a CPU parts of its memory.
    """
    head_room: int | str | None = None
    """Bytes that are left to others; without it a twentieth of the memory, and at least 512 MiB."""
    patience: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """Seconds that a model waits for busy ones before these are given nothing more."""
    metrics: str | None = None
    """Where Prometheus finds metrics: an absolute path of a unix socket, or a loopback address and port."""


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[models.NAME]`: a profile."""

    source: str = ""
    """Folder of the weights, or the built-in model."""
    base: str | None = None
    """The model that this one adapts: it runs in that one's worker."""
    adapter: str | None = None
    """Folder of the LoRA weights that make this model of its base."""
    aliases: list[str] = []
    default: bool = False
    preload: bool = False
    license: str | None = None
    revision: str | None = None
    context: Annotated[int, Meta(ge=16)] | None = None
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    quantization: str | None = None
    max_sequences: Annotated[int, Meta(ge=1, le=65536)] | None = None
    kv_cache: int | str | None = None
    """Size of the KV cache, such as `512MiB`; read into bytes."""
    concurrency: Annotated[int, Meta(ge=1, le=65536)] | None = None
    """Answers of full length for which the KV cache has room, where `kv_cache` says nothing."""
    tensor_parallel: Annotated[int, Meta(ge=1, le=1024)] | None = None
    runner: Literal["generate", "pooling"] | None = None
    """What it makes: text, or with `pooling` vectors of texts (op `embed`)."""
    front: Literal["auto", "core", "async"] = "auto"
    """How the worker asks vLLM: its engine core directly where it can, always, or never (then through `AsyncLLM`)."""
    engine: dict[str, Any] = {}
    """Further fields of vLLM's `AsyncEngineArgs`."""
    memory: int | str | None = None
    """Bytes that it takes, such as "6GiB"."""
    ttl: Annotated[float, Meta(gt=0)] | None = None
    """Seconds without a request after which it is unloaded."""
    pin: bool = False
    """It is not put out for others."""
    min_resident: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds that it stays at least, once it is ready."""
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0
    """One more: it is worth twice as much to have it there."""
    group: str | None = None
    """Of a group, one model is resident at a time."""
    exclusive: bool = False
    """It is resident alone."""
    comes_back: Annotated[float, Meta(gt=0)] | None = None
    """Once what took its place has been idle for so many seconds, it is loaded again."""
    sampling: Sampling = Sampling()
    echo: dict[str, Any] = {}
    """Options of the echo engine, for tests."""

    @property
    def ops(self) -> tuple[str, ...]:
        """Return what it can be asked."""
        return ("embed",) if self.runner == "pooling" else TEXT_OPS


class Plugin(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[plugins.NAME]`: a plugin that takes part in requests; what is not said is as its author has it."""

    enabled: bool = True
    order: Annotated[int, Meta(ge=0, le=1000)] | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=HOOK_DEADLINE_MS)] | None = None
    on_error: Literal["refuse", "skip"] | None = None
    security: bool | None = None
    trial: bool = False
    """It runs and is reported, and changes nothing."""
    models: list[str] = []
    accounts: list[str] = []
    tags: list[str] = []
    options: dict[str, Any] = {}

    @property
    def choice(self) -> Choice:
        """Return what its host is told."""
        select = Select(self.models, self.accounts, self.tags)
        return Choice(
            self.enabled, self.order, self.deadline_ms, self.on_error, self.trial, select, self.options, self.security
        )


class Hook(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[hooks.NAME]`: what a hook that a client offers under this name may do."""

    account: str | None = None
    """Only this account may offer it, such as `uid:1000`."""
    order: Annotated[int, Meta(ge=0, le=1000)] | None = None
    scope_all: bool = False
    """It may see the requests of all accounts."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """Table `[[rules]]`: what some accounts may do; the first rule that names an account decides."""

    accounts: Annotated[list[str], Meta(min_length=1)]
    """`uid:N`, the name of a user, `group:NAME`, `*`."""
    models: list[str] = msgspec.field(default_factory=lambda: ["*"])
    may: list[Right] = msgspec.field(default_factory=lambda: ["hook"])
    priority: Class = "normal"
    open_requests: Annotated[int, Meta(ge=1)] | None = None
    waiting: Annotated[int, Meta(ge=1)] | None = None
    """Most requests that wait for one model."""
    tokens_per_minute: Annotated[int, Meta(ge=1)] | None = None
    tokens_per_day: Annotated[int, Meta(ge=1)] | None = None


FIELDS = {
    "context": "max_model_len",
    "dtype": "dtype",
    "quantization": "quantization",
    "max_sequences": "max_num_seqs",
    "kv_cache": "kv_cache_memory_bytes",
    "tensor_parallel": "tensor_parallel_size",
    "runner": "runner",
}
"""Our names of launch options and the fields of `AsyncEngineArgs` that they set."""

PATHS = ("socket", "state_dir", "plugin_folder")
"""Keys of `[daemon]` that are paths."""

OF_ADAPTERS = ("base", "adapter", "aliases", "default", "preload", "license", "revision", "sampling")
"""Keys of models that are adapters."""

RESERVED = ("model", "served_model_name", "tokenizer_mode", "load_format", "disable_log_stats", "enable_log_requests")
"""Fields of `AsyncEngineArgs` that the daemon sets itself."""


class Config(Struct, frozen=True):
    """All settings of one daemon, with defaults filled in."""

    socket: Path
    runtime: Path
    state: Path
    daemon: Daemon
    models: dict[str, Model]
    engine: Engine = "vllm"
    plugins: dict[str, Plugin] = {}
    hooks: dict[str, Hook] = {}
    plugin_folder: Path | None = None
    rules: list[Rule] = []
    origins: dict[str, Path] = {}
    """Which file a key comes from, by its path."""

    @property
    def access(self) -> tuple[accounts.Rule, ...]:
        """Return the rules for accounts, in order."""
        return tuple(_access(rule, i) for i, rule in enumerate(self.rules))

    @property
    def setup(self) -> Setup:
        """Return what a host of plugins is told."""
        plugins = {name: plugin.choice for name, plugin in self.plugins.items()}
        folder = None if self.plugin_folder is None else str(self.plugin_folder)
        return Setup(plugins, folder, memory=self.daemon.plugin_memory)

    @property
    def default_model(self) -> str:
        """Return the model of requests that name none."""
        return next((name for name, model in self.models.items() if model.default), next(iter(self.models)))

    @property
    def metrics(self) -> Path | tuple[str, int] | None:
        """Return where metrics are served: a unix socket, or an address and a port."""
        text = self.daemon.metrics
        return None if text is None else metrics_place(text)

    @property
    def devices(self) -> list[Device]:
        """Return where models are, and how many bytes they may take together there; GPUs are found later."""
        said = self.daemon.memory
        if not isinstance(said, list):
            return [Device("memory", None if said is None else parse(said), whole=True)]
        return [Device(f"memory {index}", parse(size)) for index, size in enumerate(said)]

    @property
    def budget(self) -> int | None:
        """Return how many bytes models may take in all; None: as many as are free."""
        budgets = [device.budget for device in self.devices]
        return None if None in budgets else sum(one or 0 for one in budgets)

    @property
    def head_room(self) -> int | None:
        """Return the bytes that are left to others; None: as much as is usual."""
        return None if self.daemon.head_room is None else parse(self.daemon.head_room)

    def terms(self, name: str) -> Terms:
        """Return when this model may be resident."""
        model = self.models[name]
        need = 0 if model.memory is None else parse(model.memory)
        return Terms(
            need,
            weight=2.0**model.priority,
            min_resident=model.min_resident,
            group=model.group,
            exclusive=model.exclusive,
            devices=model.tensor_parallel or 1,
        )

    def fresh(self, name: str) -> residency.Model:
        """Return a model for the core, with nothing loaded."""
        model = self.models[name]
        return residency.Model(
            name,
            tuple(model.aliases),
            model.license,
            model.revision,
            model.ops,
            model.base,
            terms=self.terms(name),
            ttl=model.ttl,
            comes_back=model.comes_back,
            pin=model.pin,
            pinned=model.pin,
        )

    @property
    def specs(self) -> dict[str, Spec]:
        """Return what workers run, by model; adapters have none of their own."""
        return {name: self.spec(name) for name, model in self.models.items() if model.base is None}

    @property
    def adapters(self) -> dict[str, AddAdapter]:
        """Return what workers are told of adapters, by model."""
        return {name: self.adapter(name) for name, model in self.models.items() if model.base is not None}

    def adapter(self, name: str) -> AddAdapter:
        """Return what the worker of an adapter's base is told of it."""
        model = self.models[name]
        return AddAdapter(name, model.adapter or "", _chosen(model.sampling))

    def spec(self, name: str) -> Spec:
        """Return what a worker of this model runs, which is no adapter."""
        model = self.models[name]
        options: dict[str, Any] = {}
        source = model.source
        if source == BUILTIN:
            source = str(ember_path())
            options.update(EMBER_OPTIONS)
        values = {ours: getattr(model, ours) for ours in FIELDS}
        options.update({FIELDS[ours]: value for ours, value in values.items() if value is not None})
        options.update(model.engine)
        adapters = {other: one.adapter or "" for other, one in self.models.items() if one.base == name}
        chosen = _chosen(model.sampling)
        return Spec(name, self.engine, source, options, chosen, model.concurrency, model.echo, model.front, adapters)


def _chosen(sampling: Sampling) -> dict[str, Any]:
    """Return the sampling options that are said."""
    plain = Sampling()
    chosen = {key: getattr(sampling, key) for key in Sampling.__struct_fields__}
    found: dict[str, Any] = msgspec.to_builtins({key: one for key, one in chosen.items() if one != getattr(plain, key)})
    return found


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
        key = re.match(r"[\w.\[\]-]*", str(error))
        at = layers.origin(key[0], origins) if key else None
        raise ConfigError(f"{at or where}: {error}") from error
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
    longest = max(len(os.fsencode(path)) for path in (config.socket, config.runtime / "link.sock"))
    if longest > 107:
        raise ConfigError(f"{where}: socket path {config.socket} is too long: a unix socket has at most 107 bytes")
    return config


def _read(table: dict[str, Any], origins: Mapping[str, Path]) -> tuple[Daemon, dict[str, Model], dict[str, Path]]:
    _known(table, ("daemon", "models", "plugins", "hooks", "rules"), "")
    head = _table(table.get("daemon", {}), "daemon")
    paths: dict[str, Path] = {}
    for key in PATHS:
        if key in head:
            value = head.pop(key)
            if not isinstance(value, str) or not Path(value).expanduser().is_absolute():
                raise ConfigError(f"daemon.{key} is {value!r}: expected an absolute path")
            paths[key] = Path(value).expanduser()
    daemon = _convert(head, Daemon, "daemon", extra=PATHS)
    for key in ("memory", "head_room"):
        value = getattr(daemon, key)
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            if one is not None:
                _size(one, f"daemon.{key}[{index}]" if isinstance(value, list) else f"daemon.{key}")
    if daemon.memory == []:
        raise ConfigError("daemon.memory is []: say one size, or one for each device")
    try:
        metrics_place(daemon.metrics or "/")
    except ValueError as error:
        allowed = "an absolute path of a unix socket, or a loopback address and port such as '127.0.0.1:9464'"
        raise ConfigError(f"daemon.metrics is {daemon.metrics!r}: expected {allowed}") from error
    models: dict[str, Model] = {}
    for name, value in _table(table.get("models", {}), "models").items():
        at = f"models.{name}"
        _check_name(name, at)
        said = _table(value, at)
        model = _convert(said, Model, at)
        if model.base is not None or model.adapter is not None:
            models[name] = _adapter(model, at, tuple(said), origins.get(f"{at}.adapter"))
        else:
            models[name] = _model(model, at, origins.get(f"{at}.source"))
    if not models:
        models["ember"] = Model(source=BUILTIN, default=True, preload=True)
    _check_names(models)
    _check_bases(models)
    return daemon, models, paths


def _read_hooks(table: dict[str, Any]) -> tuple[dict[str, Plugin], dict[str, Hook]]:
    """Read plugins and the rules for what clients offer."""
    plugins: dict[str, Plugin] = {}
    hooks: dict[str, Hook] = {}
    for name, value in _table(table.get("plugins", {}), "plugins").items():
        at = f"plugins.{name}"
        _check_hook(name, at)
        plugins[name] = _convert(_table(value, at), Plugin, at)
    for name, value in _table(table.get("hooks", {}), "hooks").items():
        at = f"hooks.{name}"
        _check_hook(name, at)
        hooks[name] = _convert(_table(value, at), Hook, at)
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
        rule = _convert(_table(value, at), Rule, at)
        for name in rule.accounts:
            if re.fullmatch(r"\*|uid:[0-9]+|(group:)?[^\s:*]+", name) is None:
                allowed = "`uid:N`, the name of a user, `group:NAME` or `*`"
                raise ConfigError(f"{at}.accounts has {name!r}: expected {allowed}")
        rules.append(rule)
    return rules


def _access(rule: Rule, i: int) -> accounts.Rule:
    rights = accounts.Rights(
        tuple(rule.models),
        frozenset(rule.may),
        rule.priority,
        rule.open_requests,
        rule.waiting,
        rule.tokens_per_minute,
        rule.tokens_per_day,
        why=f"rules[{i}] of the configuration ({', '.join(rule.accounts)})",
    )
    return accounts.Rule(tuple(rule.accounts), rights)


def metrics_place(text: str) -> Path | tuple[str, int]:
    """Return a unix socket, or a loopback address and port. Raises ValueError."""
    if text.startswith("/"):
        return Path(text)
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if host not in ("127.0.0.1", "::1", "localhost") or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(text)
    return host, int(port)


def _check_hook(name: str, at: str) -> None:
    if re.fullmatch("[a-z0-9][a-z0-9_.-]{0,63}", name) is None:
        raise ConfigError(f"{at}: a hook's name has small letters, digits, '_', '.' and '-', and at most 64 of them")


def _model(model: Model, at: str, file: Path | None) -> Model:
    """Return the model with an absolute source. Raises ConfigError."""
    if model.memory is not None:
        _size(model.memory, f"{at}.memory")
    for key in model.engine:
        if key == "runner":
            raise ConfigError(f"{at}.engine.runner: say {at}.runner, so that the daemon knows what the model makes")
        if key in RESERVED:
            raise ConfigError(f"{at}.engine.{key}: the daemon sets this itself; remove it")
        ours = next((ours for ours, theirs in FIELDS.items() if theirs == key), None)
        if ours is not None and getattr(model, ours) is not None:
            raise ConfigError(f"{at}.engine.{key}: {at}.{ours} sets the same; keep one of them")
    if model.runner == "pooling" and model.front == "core":
        raise ConfigError(f"{at}.front is 'core': a model with runner = 'pooling' is asked through AsyncLLM; remove it")
    if model.kv_cache is not None:
        if model.concurrency is not None:
            raise ConfigError(f"{at}.concurrency: {at}.kv_cache sets the size of the KV cache; keep one of them")
        model = msgspec.structs.replace(model, kv_cache=_size(model.kv_cache, f"{at}.kv_cache"))
    if model.source.startswith("builtin:"):
        if model.source != BUILTIN:
            raise ConfigError(f"{at}.source is {model.source!r}: the built-in model is {BUILTIN!r}")
        return model
    if not model.source:
        raise ConfigError(f"{at}.source is missing: a folder with weights (or {at}.base and {at}.adapter)")
    return msgspec.structs.replace(model, source=_folder(model.source, file))


def _adapter(model: Model, at: str, said: Iterable[str], file: Path | None) -> Model:
    """Return the adapter with an absolute folder. Raises ConfigError."""
    if model.base is None or model.adapter is None:
        there, other = ("adapter", "base") if model.base is None else ("base", "adapter")
        raise ConfigError(f"{at}.{other} is missing: {at}.{there} makes it an adapter, which needs both")
    for key in said:
        if key not in OF_ADAPTERS:
            allowed = ", ".join(OF_ADAPTERS)
            text = f"{at}.{key}: an adapter runs in the worker of its base, '{model.base}': say it there"
            raise ConfigError(f"{text} (allowed here: {allowed})")
    return msgspec.structs.replace(model, adapter=_folder(model.adapter, file))


def _folder(said: str, file: Path | None) -> str:
    """Return a folder of weights, which may be relative to the file that names it."""
    path = Path(said).expanduser()
    return str((path if path.is_absolute() else (file.parent if file else Path.cwd()) / path).absolute())


def _check_bases(models: dict[str, Model]) -> None:
    for name, model in models.items():
        if model.base is None:
            continue
        at, base = f"models.{name}.base", models.get(model.base)
        if base is None:
            near = get_close_matches(model.base, models, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"{at} is {model.base!r}: there is no such model{guess}")
        if base.base is not None:
            raise ConfigError(f"{at} is {model.base!r}: that is an adapter itself; name its base, '{base.base}'")
        if base.runner == "pooling":
            raise ConfigError(f"{at} is {model.base!r}: adapters of models that make vectors are not supported")


def _size(value: int | str, at: str) -> int:
    try:
        bytes = parse(value)
    except ValueError as error:
        raise ConfigError(f"{at} is {value!r}: {error}") from error
    if bytes < 1 << 20:
        raise ConfigError(f"{at} is {value!r}: less than 1 MiB")
    return bytes


def _check_name(name: str, at: str) -> None:
    if not 1 <= len(name) <= 128 or not name.isprintable() or any(c.isspace() or c in "\"'`$\\/" for c in name):
        raise ConfigError(f"{at}: a name has 1 to 128 printable characters, no blank, quote, slash or dollar sign")


def _check_names(models: dict[str, Model]) -> None:
    defaults = [name for name, model in models.items() if model.default]
    if len(defaults) > 1:
        raise ConfigError(f"models.{defaults[1]}.default: models.{defaults[0]} is the default already")
    owner = {name: f"models.{name}" for name in models}
    for name, model in models.items():
        for i, alias in enumerate(model.aliases):
            _check_name(alias, f"models.{name}.aliases[{i}]")
            if alias in owner:
                raise ConfigError(f"models.{name}.aliases[{i}] is {alias!r}: {owner[alias]} has this name already")
            owner[alias] = f"models.{name}.aliases"


def _table(value: object, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{at} is {value!r}: expected a table")
    return dict(value)


def _known(table: Mapping[str, Any], allowed: tuple[str, ...], at: str) -> None:
    for key in table:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            path = f"{at}.{key}" if at else key
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"{path}: unknown key{guess} (allowed: {', '.join(allowed)})")


def _convert(table: dict[str, Any], kind: type[S], at: str, extra: tuple[str, ...] = ()) -> S:
    _known(table, kind.__struct_fields__ + extra, at)
    if kind is Model and isinstance(table.get("sampling"), dict):
        _known(table["sampling"], Sampling.__struct_fields__, f"{at}.sampling")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        keys = path.rstrip("`").lstrip(".")
        value: Any = table
        for key in filter(None, keys.split(".")):
            name, _, index = key.partition("[")
            value = value.get(name) if isinstance(value, dict) else None
            if index.rstrip("]").isdigit() and isinstance(value, list):
                value = value[int(index.rstrip("]"))]
        shown = f" is {value!r}" if keys else ""
        path = f"{at}.{keys}" if keys else at
        raise ConfigError(f"{path}{shown}: {text[0].lower()}{text[1:]}{_choices(kind, keys)}") from error


def _choices(kind: type[Struct], key: str) -> str:
    """Return the allowed values of a key that is a choice, in words."""
    hint = get_type_hints(kind).get(key)
    choices: set[str] = set()
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Literal:
            choices.update(get_args(part))
    return f" (allowed: {', '.join(map(repr, sorted(choices)))})" if choices else ""
